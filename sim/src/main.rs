//! The command line of the simulator.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Runs Shepherd Edge natively")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the whole API from the native build of the same code. Stores are
    /// named by the same variables as on Workers (DATABASE_URL, VALKEY_URL …).
    Serve {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8787")]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let Command::Serve { listen } = Arguments::parse().command;
    match serve(listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "cannot serve on {listen}: {error}; is the port taken? Choose another with --listen."
            );
            ExitCode::FAILURE
        }
    }
}

fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        println!("serving on http://{}", listener.local_addr()?);
        edge::host::native::serve(listener, &|name| std::env::var(name).ok()).await
    })
}
