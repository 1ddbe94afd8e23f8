//! One master: what it is asked, what it is sent, and what is waited for.

use std::time::Duration;

use masthead_api::power::{PowerAnswer, PowerRequest};
use masthead_api::upgrade::{StageAnswer, UpgradeRequest};
use masthead_api::{FORMAT, Status, routes};
use tokio::time::{Instant, sleep_until, timeout};

use super::bundle::Source;
use super::progress::Progress;
use super::stage::{Awaited, Stage};
use crate::cli::UpgradeOptions;
use crate::client::{Client, unreadable};
use crate::commands::power::heard;
use crate::{Exit, Failure};

/// How often a master is asked how far it is.
const PERIOD: Duration = Duration::from_secs(1);

/// One master, and the way to it.
pub(super) struct Master {
    pub(super) name: String,
    pub(super) client: Client,
}

impl Master {
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        let what = "read the status";
        let answer = self.client.ask(what, routes::STATUS, None::<&()>).await?;
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error))
    }

    /// Whether it would take the bundle.
    pub(super) async fn would_take(&self, source: &Source) -> Result<StageAnswer, Failure> {
        let (length, pieces) = source.beginning();
        let path = format!("{}?plan=true", routes::IMAGE);
        let what = "show the bundle to";
        let mut connection = self.client.connect().await?;
        let answer = connection.put(what, &path, length, pieces).await;
        let answer = answer.map_err(|failure| heard(failure, true))?;
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error))
    }

    /// Has it write the image to its disk.
    pub(super) async fn send(
        &self,
        source: &Source,
        progress: &Progress,
    ) -> Result<StageAnswer, Failure> {
        let told = progress.sending("takes the image", source.size);
        let what = "send the bundle to";
        let mut connection = self.client.connect().await?;
        let answer = connection
            .put(what, routes::IMAGE, source.size, source.pieces(told)?)
            .await;
        let answer = answer.map_err(|failure| heard(failure, true))?;
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error))
    }

    /// Has it reboot into the image that it was sent, or only say what that would do.
    pub(super) async fn upgrade(
        &self,
        image: &str,
        options: &UpgradeOptions,
    ) -> Result<PowerAnswer, Failure> {
        let request = UpgradeRequest {
            format: FORMAT,
            image: image.to_owned(),
            plan: options.plan,
            accept_outage: options.accept_outage,
        };
        self.ask("upgrade", routes::UPGRADE, &request, options)
            .await
    }

    /// Has it go back to the image before, or only say what that would do.
    pub(super) async fn back(&self, options: &UpgradeOptions) -> Result<PowerAnswer, Failure> {
        let request = PowerRequest {
            format: FORMAT,
            plan: options.plan,
            accept_outage: options.accept_outage,
        };
        self.ask("roll back", routes::ROLLBACK, &request, options)
            .await
    }

    async fn ask<M: serde::Serialize + Sync>(
        &self,
        what: &str,
        route: &str,
        request: &M,
        options: &UpgradeOptions,
    ) -> Result<PowerAnswer, Failure> {
        let mut connection = self.client.connect().await?;
        let answer = connection.ask_at_leisure(what, route, request).await;
        let answer = answer.map_err(|failure| heard(failure, options.plan))?;
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())
    }

    /// Waits until the image is good, or the master is back with another one.
    pub(super) async fn wait(
        &self,
        awaited: &Awaited,
        patience: Duration,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut last = None;
        let waiting = async {
            loop {
                let next = Instant::now() + PERIOD;
                // One that does not answer is on its way.
                if let Ok(status) = self.status().await {
                    let stage = awaited.stage(&status);
                    if last.as_ref() != Some(&stage) {
                        progress.note(&stage.words());
                        last = Some(stage.clone());
                    }
                    match stage {
                        Stage::Good => return Ok(()),
                        Stage::Back(why) => return Err(self.not_good(why)),
                        _ => {}
                    }
                }
                sleep_until(next).await;
            }
        };
        let waited = timeout(patience, waiting).await;
        waited.unwrap_or_else(|_| {
            Err(Failure {
                exit: Exit::Stopped,
                what: format!("see that the image of {} is good", self.name),
                why: format!("that took longer than {} s", patience.as_secs()),
                next: "See `mastctl upgrade status` and its console; it has begun, and ends by itself. The same command goes on with it.".to_owned(),
                code: "timeout".to_owned(),
            })
        })
    }

    fn not_good(&self, why: Option<String>) -> Failure {
        Failure {
            exit: Exit::Stopped,
            what: format!("upgrade {}", self.name),
            why: why.unwrap_or_else(|| {
                "it is back with its last image, and nothing is known of the new one".to_owned()
            }),
            next: "It serves with its last image, and the other masters were left alone. Mend the image, and try again."
                .to_owned(),
            code: "image-failed".to_owned(),
        }
    }
}
