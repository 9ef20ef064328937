//! The model-based run of the watch contract against three replicas: writers and readers are spread over them, and come
//! back to another one than before.
//!
//! `SIGNALBOX_TEST_SEED` repeats a run's plan, `SIGNALBOX_TEST_WRITES` enlarges it (writes of each of four writers).

use crate::{
    cluster::{Cluster, Member},
    support::{
        caller::{Caller, Site},
        model::{Stage, every_row_of_the_table_holds},
    },
};

/// Three replicas, of which one after the other goes: the first in good order, the second without a word.
struct Replicas {
    members: [Member; 3],
    token: String,
    gone: usize,
}

impl Stage for Replicas {
    fn admin(&self) -> Caller {
        let sites: Vec<Site> = self.members.iter().map(|member| member.site.clone()).collect();
        // Each at another one to begin with.
        let turns = rand::random_range(0..sites.len());
        (0..turns).fold(Caller::new(&Site::among(&sites), &self.token), |caller, _| caller.reconnected())
    }

    fn each(&self) -> Vec<Caller> {
        self.members.iter().map(|member| member.caller(&self.token)).collect()
    }

    async fn disturb(&mut self) {
        let member = &mut self.members[self.gone % 3];
        if self.gone.is_multiple_of(2) {
            member.stop().await;
        } else {
            member.kill().await;
        }
        member.start().await;
        self.gone += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_for_three_replicas() {
    let cluster = Cluster::new().await;
    let cluster = cluster.with("SIGNALBOX_LOG_RING_BYTES", "1MiB").with("SIGNALBOX_SHUTDOWN_GRACE", "1s");
    let members = cluster.start_three().await;
    let other = Cluster::new().await;
    let foreign = other.start().await.caller(&other.first_token().await).status().await.revision_token;
    let mut replicas = Replicas { members, token: cluster.first_token().await, gone: 0 };
    every_row_of_the_table_holds(&mut replicas, &foreign).await;
}
