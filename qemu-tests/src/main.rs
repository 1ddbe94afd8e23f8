//! `lab`: clusters of Masthead on one machine.

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("namespace-node") {
        masthead_lab::namespace::launcher::run()?;
    }
    Ok(())
}
