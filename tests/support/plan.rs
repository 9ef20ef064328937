//! Random writes, by a seed: creations, updates, deletions, labels, batches, secrets, and writes that must fail.
//!
//! Each planner owns some names, whose state it knows, and shares a few with all the others, where anything may have
//! happened in between.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use signalbox::proto::v1::{BatchWriteResponse, ChangeType, Resource, resource::Spec};
use tonic::Code;

use super::{
    resources::{
        CANARY, api_key, given, kind, labelled, provider, secret_setting, secrets_in, setting, with_header,
    },
    writer::{Job, Op},
};

/// What may become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hope {
    Success,
    Failure(Code),
    /// Others write the same names.
    Either,
}

/// Plans the writes of one writer.
pub struct Planner {
    rng: StdRng,
    id: usize,
    /// The writer's own resources as they are, masked.
    own: BTreeMap<String, Resource>,
    count: u64,
    run: u32,
}

impl Planner {
    pub fn new(seed: u64, id: usize) -> Self {
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1009).wrapping_add(id as u64));
        Self { rng, id, own: BTreeMap::new(), count: 0, run: rand::random() }
    }

    /// The next write, and what may become of it.
    pub fn next(&mut self) -> (Job, Hope) {
        self.count += 1;
        let request_id = format!("{:x}-{}-{}", self.run, self.id, self.count);
        let (ops, hope) = match self.rng.random_range(0..100) {
            0..70 => (vec![self.own_op(&[])], Hope::Success),
            70..80 => (self.batch(), Hope::Success),
            80..88 => self.failing(),
            _ => (vec![self.shared_op()], Hope::Either),
        };
        let batch = ops.len() > 1 || self.rng.random_bool(0.1);
        let validate_only = self.rng.random_bool(0.03);
        (Job { request_id, ops, batch, validate_only }, hope)
    }

    /// Whether to write the same once more.
    pub fn again(&mut self) -> bool {
        self.rng.random_bool(0.1)
    }

    /// Takes note of what became of the writer's own resources.
    pub fn learn(&mut self, response: &BatchWriteResponse) {
        for result in &response.results {
            let deleted = result.diffs.iter().filter(|diff| diff.r#type() == ChangeType::Deleted);
            deleted.for_each(|diff| drop(self.own.remove(&diff.name)));
            if let Some(resource) =
                result.resource.as_ref().filter(|resource| !resource.name.contains("shared"))
            {
                self.own.insert(resource.name.clone(), resource.clone());
            }
        }
    }

    /// A write of an own resource that goes with others in one batch: it does not touch what they write, nor what lives
    /// beneath or above it, unless it is a key of a provider that they create.
    fn own_op(&mut self, others: &[Op]) -> Op {
        let created =
            others.iter().filter(|other| matches!(other, Op::Create(_))).map(|other| other.name().to_owned());
        let created: BTreeSet<String> = created.collect();
        let beneath = |above: &str, name: &str| name.starts_with(&format!("{above}/"));
        loop {
            let op = self.any_own_op(&created);
            let apart = |other: &Op| {
                let goes_with = created.contains(other.name()) && matches!(&op, Op::Create(_));
                other.name() != op.name()
                    && !beneath(op.name(), other.name())
                    && (goes_with || !beneath(other.name(), op.name()))
            };
            if others.iter().all(apart) {
                return op;
            }
        }
    }

    fn any_own_op(&mut self, created: &BTreeSet<String>) -> Op {
        let id = self.id;
        let which = self.rng.random_range(0..3);
        let name = match self.rng.random_range(0..100) {
            0..45 => format!("settings/w{id}_{}", self.rng.random_range(0..10)),
            45..60 => format!("users/u{id}/settings/s_{which}"),
            60..75 => format!("providers/w{id}-{which}"),
            _ => format!("providers/w{id}-{which}/apiKeys/{}", self.rng.random_range(0..2)),
        };
        let Some(now) = self.own.get(&name).cloned() else {
            let parent = name.split_once("/apiKeys/").map(|(parent, _)| parent.to_owned());
            return match parent.filter(|parent| !self.own.contains_key(parent) && !created.contains(parent)) {
                Some(parent) => Op::Create(self.fresh(&parent)),
                None => Op::Create(self.fresh(&name)),
            };
        };
        match self.rng.random_range(0..100) {
            0..12 => {
                let etag = if self.rng.random_bool(0.5) { now.etag } else { String::new() };
                Op::Delete { name, etag, allow_missing: false }
            }
            12..30 => Op::update(
                self.with_labels(Resource { name, spec: None, ..Resource::default() }),
                &["labels"],
            ),
            30..38 => Op::update(now, &[]),
            38..52 => self.read_modify_write(now),
            _ => self.change(&now),
        }
    }

    /// Content for a resource that is not there yet.
    fn fresh(&mut self, name: &str) -> Resource {
        let secret = self.secret();
        let resource = match name {
            _ if name.contains("/apiKeys/") => api_key(name, &secret),
            _ if name.starts_with("providers/") && self.rng.random_bool(0.4) => {
                with_header(provider(name), "x-extra", &secret)
            }
            _ if name.starts_with("providers/") => provider(name),
            _ if name.starts_with("users/") => secret_setting(name, &secret),
            _ => setting(name, self.text()),
        };
        self.with_labels(resource)
    }

    /// One field by its mask.
    fn change(&mut self, now: &Resource) -> Op {
        let (name, secret) = (now.name.clone(), self.secret());
        match kind(now) {
            "provider" => {
                let mut new = provider(&name);
                if let Some(Spec::Provider(spec)) = &mut new.spec {
                    spec.display_name = format!("Version {}", self.count);
                }
                Op::update(new, &["provider.display_name"])
            }
            "api_key" => Op::update(api_key(&name, &secret), &["api_key.secret"]),
            _ if name.starts_with("users/") => {
                Op::update(secret_setting(&name, &secret), &["setting.secret_value"])
            }
            _ => Op::update(setting(&name, self.text()), &["setting.string_value"]),
        }
    }

    /// As an editor does it: the whole resource as it was read, one thing changed, its secrets as they are or new.
    fn read_modify_write(&mut self, mut now: Resource) -> Op {
        let (count, secret, replace) = (self.count, self.secret(), self.rng.random_bool(0.3));
        match &mut now.spec {
            Some(Spec::Provider(spec)) => spec.description = format!("Edit {count}"),
            Some(Spec::ApiKey(spec)) => spec.description = format!("Edit {count}"),
            Some(Spec::Setting(spec)) => spec.description = format!("Edit {count}"),
            // Writers make no others.
            _ => {}
        }
        if replace {
            secrets_in(&mut now).into_iter().for_each(|(_, held)| *held = given(&secret));
        }
        let mask: &[&str] = if self.rng.random_bool(0.5) { &["*"] } else { &[] };
        Op::update(now, mask)
    }

    /// Several kinds in one revision; now and then so large that it can't travel in one message.
    fn batch(&mut self) -> Vec<Op> {
        if self.rng.random_bool(0.08) {
            let names = (0..10).map(|index| format!("settings/w{}_{index}", self.id));
            let resources: Vec<Resource> = names.map(|name| setting(&name, "J".repeat(60_000))).collect();
            let stamp = self.count.to_string();
            let upsert = |mut resource: Resource| {
                resource.labels.insert("jumbo".to_owned(), stamp.clone());
                Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true }
            };
            return resources.into_iter().map(upsert).collect();
        }
        let mut ops = Vec::new();
        for _ in 0..self.rng.random_range(2..7) {
            ops.push(self.own_op(&ops));
        }
        ops
    }

    fn failing(&mut self) -> (Vec<Op>, Hope) {
        let id = self.id;
        let missing = setting(&format!("settings/w{id}_never"), "x");
        let known = self.own.values().nth(self.count as usize % self.own.len().max(1)).cloned();
        let (op, code) = match (self.rng.random_range(0..4), known) {
            (0, Some(known)) => {
                (Op::update(Resource { etag: "stale".into(), ..known }, &["labels"]), Code::Aborted)
            }
            (1, Some(known)) => {
                let mut again = self.fresh(&known.name);
                again.etag = String::new();
                (Op::Create(again), Code::AlreadyExists)
            }
            (2, _) => (Op::Create(setting("settings/", "x")), Code::InvalidArgument),
            (3, _) => {
                let orphan = api_key(&format!("providers/w{id}-never/apiKeys/a"), &self.secret());
                (Op::Create(orphan), Code::FailedPrecondition)
            }
            _ => (Op::update(missing, &["setting.string_value"]), Code::NotFound),
        };
        // Half of them drag a sound operation down with them.
        let sound = Op::Create(setting(&format!("settings/w{id}_dragged"), self.text()));
        let ops = if self.rng.random_bool(0.5) { vec![sound, op] } else { vec![op] };
        (ops, Hope::Failure(code))
    }

    fn shared_op(&mut self) -> Op {
        let which = self.rng.random_range(0..3);
        let name = match self.rng.random_range(0..3) {
            0 => format!("providers/shared-{which}"),
            1 => format!("providers/shared-{which}/apiKeys/a"),
            _ => format!("settings/shared_{which}"),
        };
        match self.rng.random_range(0..10) {
            0..2 => Op::Delete { name, etag: String::new(), allow_missing: true },
            2..4 => Op::Create(self.fresh(&name)),
            4..6 => Op::update(self.with_labels(Resource { name, ..Resource::default() }), &["labels"]),
            _ => Op::Update { resource: self.fresh(&name), mask: vec!["*".to_owned()], allow_missing: true },
        }
    }

    fn with_labels(&mut self, resource: Resource) -> Resource {
        let team = ["red", "blue", "green"][self.rng.random_range(0..3)];
        let env = ["prod", "dev"][self.rng.random_range(0..2)];
        match self.rng.random_range(0..4) {
            0 => labelled(resource, &[]),
            1 => labelled(resource, &[("team", team)]),
            _ => labelled(resource, &[("team", team), ("env", env)]),
        }
    }

    fn secret(&mut self) -> String {
        format!("{CANARY}-{}-{}-{:x}", self.id, self.count, self.rng.random::<u32>())
    }

    /// Mostly short, sometimes large enough to fill the windows of who does not read.
    fn text(&mut self) -> String {
        let length = if self.rng.random_bool(0.2) { self.rng.random_range(16_000..40_000) } else { 20 };
        format!("{}:{}", self.count, "x".repeat(length))
    }
}
