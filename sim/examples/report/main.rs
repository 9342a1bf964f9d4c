//! Prints the report of an invented evening in a shop as JSON, which shows all
//! that a page can: `cargo run -p sim --example report | cargo run -p sim -- report - --html page.html`

mod evening;

fn main() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&evening::report()?)?);
    Ok(())
}
