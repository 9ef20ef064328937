//! Warns, on every replica, of a life of the store that began because commits were lost: somebody has to look at what is gone.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::Clock,
    service::Warnings,
    store::{BegunLife, Store},
    view::View,
};

/// How often it is looked whether the view is in another life. The store is asked only then.
const EVERY: Duration = Duration::from_secs(1);

/// What is warned of.
const MATTER: &str = "life";

/// Looks for new lives.
pub(super) struct Lives {
    pub store: Arc<dyn Store>,
    pub view: Arc<View>,
    pub clock: Arc<dyn Clock>,
    pub warnings: Warnings,
}

impl Lives {
    /// Warns of the last life that began, for a day after its beginning.
    pub async fn tell(self) {
        let (mut asked, mut begun) = (None, None);
        loop {
            let epoch = self.view.state().epoch;
            if asked != Some(epoch) {
                match self.store.begun_life(self.clock.now()).await {
                    Ok(found) => (asked, begun) = (Some(epoch), found),
                    Err(error) => {
                        tracing::debug!(%error, "whether the store is in a new life is not known yet")
                    }
                }
            }
            let told = begun.as_ref().filter(|begun| begun.is_told(self.clock.now()));
            self.warnings.hold(MATTER, told.map(warning));
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn warning(begun: &BegunLife) -> String {
    format!(
        "the store began a new life at {}: {}. What was acknowledged after that is gone, and every client had to begin anew: \
         hold the configuration against what you know was written, and write again what is missing (`docs/operating.md`, What \
         a backup brings back). This is told for a day",
        begun.time.format("%F %T UTC"),
        begun.detail.escape_debug()
    )
}
