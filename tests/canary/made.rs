//! Keys that the server makes: shown once to whoever asked, again to a repetition of the same request, and nowhere else.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use signalbox::proto::v1::{
    BatchOperation, BatchWriteRequest, CreateResourceRequest, GetResourceRequest, ListResourcesRequest,
    Resource, Secret, UpdateResourceRequest, VirtualKeySpec, batch_operation, resource::Spec, secret::State,
};

use crate::{
    api::{Api, secret},
    cases::resource,
    harness::{Home, Server},
    trail::Trail,
};

fn key(name: &str) -> Resource {
    resource(format!("virtualKeys/{name}"), Spec::VirtualKey(VirtualKeySpec::default()))
}

fn creation(name: &str, request_id: &str) -> CreateResourceRequest {
    let request_id = request_id.to_owned();
    CreateResourceRequest { resource: Some(key(name)), request_id, ..Default::default() }
}

fn batch(names: &[&str], request_id: &str) -> BatchWriteRequest {
    let create = |name: &&str| BatchOperation {
        operation: Some(batch_operation::Operation::Create(batch_operation::Create {
            resource: Some(key(name)),
        })),
    };
    let operations = names.iter().map(create).collect();
    BatchWriteRequest { operations, request_id: request_id.to_owned(), ..Default::default() }
}

fn spec(resource: Option<&Resource>) -> &VirtualKeySpec {
    match resource.and_then(|resource| resource.spec.as_ref()) {
        Some(Spec::VirtualKey(spec)) => spec,
        other => panic!("no virtual key: {other:?}"),
    }
}

/// Every key that is made here, in every way.
async fn make(api: &mut Api, trail: &Trail) -> Vec<String> {
    let mut keys = Vec::new();
    let created = api.config.create_resource(creation("one", "made-once")).await.unwrap().into_inner();
    let shown = spec(created.resource.as_ref());
    assert!(created.one_time_secret.starts_with(&format!("sbx_{}_", shown.key_id)));
    assert_eq!(shown.key_hash, Some(Secret { value: None, state: State::Present.into() }));
    trail.saw("the difference", format!("{:?}", created.diff).as_bytes());
    keys.push(created.one_time_secret);

    let written =
        api.config.batch_write(batch(&["two", "three"], "made-together")).await.unwrap().into_inner();
    keys.extend(written.results.into_iter().map(|result| result.one_time_secret));

    let request =
        UpdateResourceRequest { resource: Some(key("four")), allow_missing: true, ..Default::default() };
    let made = api.config.update_resource(request.clone()).await.unwrap().into_inner();
    let again = api.config.update_resource(request).await.unwrap().into_inner();
    assert_eq!(again.one_time_secret, "", "it is there already");
    assert_eq!(spec(again.resource.as_ref()), spec(made.resource.as_ref()));
    keys.push(made.one_time_secret);

    for key in &keys {
        assert_eq!(key.len(), 64, "a key of the documented form");
        trail.known("a virtual key", key);
        // The part that is secret, without what is public.
        trail.known("a virtual key", &key[21..]);
    }
    keys
}

/// What is asked once more is answered as it was.
async fn repeat(api: &mut Api, keys: &[String]) {
    let created = api.config.create_resource(creation("one", "made-once")).await.unwrap().into_inner();
    assert_eq!(created.one_time_secret, keys[0]);
    let written =
        api.config.batch_write(batch(&["two", "three"], "made-together")).await.unwrap().into_inner();
    let again: Vec<String> = written.results.into_iter().map(|result| result.one_time_secret).collect();
    assert_eq!(again, keys[1..3]);
}

/// Nobody sets what the server makes, and a dry run makes nothing.
async fn refused(api: &mut Api) {
    let mut forged = creation("forged", "");
    let forge = |change: fn(&mut VirtualKeySpec)| {
        let mut spec = VirtualKeySpec::default();
        change(&mut spec);
        Some(resource("virtualKeys/forged".into(), Spec::VirtualKey(spec)))
    };
    let hash: fn(&mut VirtualKeySpec) = |spec| spec.key_hash = Some(secret(&"ab".repeat(32)));
    for change in [hash, |spec| spec.key_id = "0123456789abcdef".into()] {
        forged.resource = forge(change);
        let status = api.config.create_resource(forged.clone()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        let update = UpdateResourceRequest {
            resource: forge(change).map(|resource| Resource { name: "virtualKeys/one".into(), ..resource }),
            ..Default::default()
        };
        let status = api.config.update_resource(update).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    }
    let dry = CreateResourceRequest { validate_only: true, ..creation("dry", "") };
    let answer = api.config.create_resource(dry).await.unwrap().into_inner();
    assert_eq!((answer.one_time_secret.as_str(), spec(answer.resource.as_ref()).key_id.as_str()), ("", ""));
}

/// A gateway that reads secrets gets the hash, others that there is one.
async fn hashes(server: &Server, keys: &[String], trail: &Trail) {
    let mut admin = Api::admin(server).await;
    let list = admin.config.list_resources(ListResourcesRequest::default()).await.unwrap().into_inner();
    trail.saw("a list", format!("{list:?}").as_bytes());
    let mut gateway = Api::worker(server).await;
    for (name, key) in ["one", "two", "three", "four"].iter().zip(keys) {
        let hash = hex::encode(Sha256::digest(key));
        assert!(!format!("{list:?}").contains(&hash));
        let name = format!("virtualKeys/{name}");
        let get = GetResourceRequest { name, include_secrets: true, ..Default::default() };
        let answer = gateway.config.get_resource(get).await.unwrap().into_inner();
        let held = spec(answer.resource.as_ref());
        assert_eq!(held.key_hash.as_ref().unwrap().value(), hash);
        assert_eq!(held.key_id, key[4..20]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_made_is_shown_once_and_found_nowhere() {
    let trail = Trail::new();
    let home = Arc::new(Home::new().with("RUST_LOG", "trace"));
    let server = Server::start_in(&home).await;
    let mut api = Api::admin(&server).await;
    let keys = make(&mut api, &trail).await;
    repeat(&mut api, &keys).await;
    refused(&mut api).await;
    hashes(&server, &keys, &trail).await;

    // On the command line it is printed, and with -q it alone.
    let printed = async |arguments: &[&str]| {
        let output = server.run(arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = printed(&["set", "virtualKeys/cli", "--field", "owner=me"]).await;
    let key = text.lines().find_map(|line| line.strip_prefix("virtualKeys/cli: ")).expect("it is printed");
    trail.known("a virtual key of the command line", key);
    let quiet = printed(&["set", "virtualKeys/quiet", "--field", "owner=me", "-q"]).await;
    assert!(quiet.starts_with("sbx_") && quiet.trim().len() == 64, "nothing but the key");
    trail.known("a virtual key of the command line", quiet.trim());
    assert_eq!(printed(&["set", "virtualKeys/quiet", "--field", "owner=you", "-q"]).await, "");
    trail.saw("a list on the command line", printed(&["list", "-o", "json"]).await.as_bytes());

    trail.saw_files(&home);
    server.stop().await;
    let server = Server::start_in(&home).await;
    repeat(&mut Api::admin(&server).await, &keys).await;
    server.stop().await;
    trail.saw_files(&home);
    let leaks = trail.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
