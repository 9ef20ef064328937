//! No resource that was taken is refused, or is another one, when it is written back as it was read, exported and imported.
//!
//! Resources of every kind are made at random (`any.rs`). What the server refuses is passed over; what it takes is held to
//! this, so a rule that looks at a stored resource otherwise than at a new one is found. `SIGNALBOX_TEST_SEED` makes the
//! resources of a run again, `SIGNALBOX_TEST_WRITES` more of them (of each kind).

mod any;

use std::{collections::BTreeMap, fmt::Debug};

use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::Value;
use signalbox::proto::v1::{
    BatchWriteRequest, CreateResourceRequest, ExportConfigRequest, ImportMode, ImportOptions, Resource,
    ResourceDiff, UpdateResourceRequest, secret::State,
};
use tonic::{Code, Status};

use crate::{
    place::{Place, import, items, options},
    support::{examples::targets, from_env, resources::secrets_in, seed, writer::Op},
};
use any::Maker;

/// How many operations a batch has.
const A_BATCH: usize = 64;

/// What was taken: the resource as it was read, and the document that was sent.
struct Taken {
    read: Resource,
    sent: Value,
}

/// What is not as it was to be.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, what: &str, resource: &Taken, why: &dyn Debug) {
        self.0.push(format!("{what}: {} was sent, {why:?}", resource.sent));
    }
}

#[tokio::test]
async fn what_is_taken_is_taken_again_on_sqlite() {
    holds(Place::on_sqlite().await, 40).await;
}

#[tokio::test]
async fn what_is_taken_is_taken_again_on_postgres() {
    holds(Place::on_postgres().await, 20).await;
}

async fn holds(place: Place, of_each_kind: u64) {
    let seed = seed();
    let of_each_kind = from_env("SIGNALBOX_TEST_WRITES", of_each_kind);
    eprintln!("SIGNALBOX_TEST_SEED={seed} SIGNALBOX_TEST_WRITES={of_each_kind}");
    let mut findings = Findings::default();
    let taken = taken(&place, seed, of_each_kind, &mut findings).await;
    written_back_together(&place, &taken, &mut findings).await;
    moved(&place, &taken, &mut findings).await;
    let Findings(found) = findings;
    let shown = &found[..found.len().min(20)];
    assert!(found.is_empty(), "SIGNALBOX_TEST_SEED={seed}: {} findings:\n{}", found.len(), shown.join("\n"));
}

/// Sends resources and changes of them, and keeps what is taken, each of which is written back at once.
async fn taken(place: &Place, seed: u64, of_each_kind: u64, findings: &mut Findings) -> Vec<Taken> {
    let mut maker = Maker::new(seed);
    let mut taken = BTreeMap::new();
    for target in targets() {
        let read = DynamicMessage::deserialize(Resource::default().descriptor(), target.clone()).unwrap();
        let stored = create(place, read.transcode_to().unwrap()).await.expect("a target");
        let kind = target.as_object().unwrap().keys().find(|key| *key != "name").unwrap();
        maker.taken(kind, &stored.name);
        taken.insert(stored.name.clone(), Taken { read: stored, sent: target });
    }
    let (mut counts, mut refused) = (BTreeMap::<String, u64>::new(), 0);
    for round in 0..of_each_kind {
        for kind in maker.kinds() {
            let change = if round % 4 == 3 { maker.change(&kind) } else { None };
            let creates = change.is_none();
            let (sent, resource) = change.unwrap_or_else(|| maker.next(&kind));
            let outcome =
                if creates { create(place, resource).await } else { replace(place, resource).await };
            match outcome {
                Ok(stored) => {
                    if creates {
                        maker.taken(&kind, &stored.name);
                    }
                    *counts.entry(kind).or_default() += 1;
                    let one = Taken { read: stored, sent };
                    written_back(place, &one, findings).await;
                    taken.insert(one.read.name.clone(), one);
                }
                Err(status) if is_refusal(&status) => refused += 1,
                Err(status) => panic!("SIGNALBOX_TEST_SEED={seed}: {sent}: {status:?}"),
            }
        }
    }
    eprintln!("{counts:?} were taken, {refused} refused");
    // About half of them are; so few would be a generator that has lost its way.
    let least = of_each_kind / 10;
    for kind in maker.kinds() {
        assert!(
            counts.get(&kind) >= Some(&least),
            "too few of {kind} were taken to say anything: {counts:?}"
        );
    }
    assert!(refused > of_each_kind, "hardly anything was beyond the rules: {refused}");
    taken.into_values().collect()
}

/// Puts something else in the place of a resource.
async fn replace(place: &Place, resource: Resource) -> Result<Resource, Status> {
    let answer = place.admin.config().update_resource(whole(resource)).await?.into_inner();
    Ok(answer.resource.expect("what was changed"))
}

fn whole(resource: Resource) -> UpdateResourceRequest {
    let update_mask = Some(prost_types::FieldMask { paths: vec!["*".to_owned()] });
    UpdateResourceRequest { resource: Some(resource), update_mask, ..Default::default() }
}

async fn create(place: &Place, resource: Resource) -> Result<Resource, Status> {
    let request = CreateResourceRequest { resource: Some(resource), ..Default::default() };
    let answer = place.admin.config().create_resource(request).await?.into_inner();
    Ok(answer.resource.expect("what was created"))
}

fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists)
}

/// It is read as it was answered, and writing that changes nothing.
async fn written_back(place: &Place, one: &Taken, findings: &mut Findings) {
    let read = place.get(&one.read.name).await.expect("what was taken is there");
    if read.encode_to_vec() != one.read.encode_to_vec() {
        findings.add("read", one, &read);
    }
    match place.admin.config().update_resource(whole(read.clone())).await.map(tonic::Response::into_inner) {
        Err(status) => findings.add("written back", one, &status),
        Ok(answer) if !answer.diff.iter().all(is_empty) || answer.resource != Some(read) => {
            findings.add("written back", one, &answer);
        }
        Ok(_) => {}
    }
}

fn is_empty(diff: &ResourceDiff) -> bool {
    diff.fields.is_empty()
}

/// All of it once more, when everything else is there: under the populated fields, and whole.
async fn written_back_together(place: &Place, taken: &[Taken], findings: &mut Findings) {
    let before = place.revision().await;
    for mask in [&[][..], &["*"]] {
        for some in taken.chunks(A_BATCH) {
            let back = |one: &Taken| Op::update(one.read.clone(), mask).in_batch();
            let request =
                BatchWriteRequest { operations: some.iter().map(back).collect(), ..Default::default() };
            match place.admin.config().batch_write(request).await {
                Err(status) => findings.add("written back together", &some[0], &status),
                Ok(answer) => {
                    for (one, result) in some.iter().zip(&answer.get_ref().results) {
                        if !result.diffs.iter().all(is_empty) {
                            findings.add("written back together", one, &result.diffs);
                        }
                    }
                }
            }
        }
    }
    assert_eq!(place.revision().await, before, "nothing was changed");
}

/// Through an export into an empty store, directly and as a file, and into the store that it came from.
async fn moved(place: &Place, taken: &[Taken], findings: &mut Findings) {
    let exported = place.export(ExportConfigRequest::default()).await.resources;
    let mut by_name: BTreeMap<&str, &Taken> = taken.iter().map(|one| (one.read.name.as_str(), one)).collect();
    for resource in &exported {
        let one = by_name.remove(resource.name.as_str()).expect("nothing else was written");
        if resource.encode_to_vec() != as_exported(&one.read).encode_to_vec() {
            findings.add("exported", one, resource);
        }
    }
    assert!(by_name.is_empty(), "all of it is exported");

    let total = u32::try_from(exported.len()).unwrap();
    match import(&place.admin, options(ImportMode::Replace), items(&exported), 1).await {
        Ok(answer) if answer.unchanged == total => {}
        other => findings.0.push(format!("imported where it came from: {other:?}")),
    }
    let other = Place::on_sqlite().await;
    let dry = ImportOptions { validate_only: true, ..options(ImportMode::Keep) };
    for options in [dry, options(ImportMode::Keep)] {
        match import(&other.admin, options, items(&exported), 1).await {
            Ok(answer) if answer.created == total => {}
            outcome => findings.0.push(format!("imported elsewhere: {outcome:?}")),
        }
    }
    is_the_same(&other, &exported, "exported again", findings).await;
    for one in taken {
        let Ok(read) = other.get(&one.read.name).await else { continue };
        let one = Taken { read, sent: one.sent.clone() };
        written_back(&other, &one, findings).await;
    }
    through_a_file(place, &exported, findings).await;
}

/// Through the command line's file.
async fn through_a_file(place: &Place, exported: &[Resource], findings: &mut Findings) {
    let path = place.server.home().path("everything.yaml");
    let path = path.to_str().unwrap();
    let token = place.token_file();
    let output = place.server.run(&["export", "--file", path, "--token-file", &token]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = Place::on_sqlite().await;
    let output = other.server.run(&["import", path]).await;
    if !output.status.success() {
        findings.0.push(format!("imported from a file: {}", String::from_utf8_lossy(&output.stderr)));
    }
    is_the_same(&other, exported, "exported after a file", findings).await;
}

async fn is_the_same(place: &Place, exported: &[Resource], what: &str, findings: &mut Findings) {
    let again = place.export(ExportConfigRequest::default()).await.resources;
    if again.len() != exported.len() {
        findings.0.push(format!("{what}: {} of {}", again.len(), exported.len()));
    }
    for (one, other) in exported.iter().zip(&again) {
        if one.encode_to_vec() != other.encode_to_vec() {
            findings.0.push(format!("{what}: {one:?} is {other:?}"));
        }
    }
}

/// What a caller can set, its secrets missing.
fn as_exported(read: &Resource) -> Resource {
    let mut resource = Resource {
        name: read.name.clone(),
        labels: read.labels.clone(),
        spec: read.spec.clone(),
        ..Resource::default()
    };
    for (_, secret) in secrets_in(&mut resource) {
        if secret.state() == State::Present {
            secret.set_state(State::Missing);
        }
    }
    resource
}
