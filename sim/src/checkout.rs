//! Where the repository lies on this machine.

use std::env;
use std::path::{Path, PathBuf};

/// The directory above us that holds `wrangler.toml`, else the one that this
/// program was built from.
pub fn directory() -> PathBuf {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built_from = built_from.parent().unwrap_or(built_from);
    env::current_dir()
        .ok()
        .and_then(|current| {
            current
                .ancestors()
                .find(|directory| {
                    directory.join("wrangler.toml").is_file() && directory.join("sim").is_dir()
                })
                .map(Path::to_owned)
        })
        .unwrap_or_else(|| built_from.to_owned())
}
