//! The `signalbox` binary.

use signalbox::settings::{Flags, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let lookup = |name: &str| std::env::var_os(name);
    let flags = Flags::default();
    let settings = Settings::load(&flags, &lookup).map_err(|problems| problems.to_string())?;
    signalbox::app::run(settings, |addresses| println!("ready {}", addresses.grpc), async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await?;
    Ok(())
}
