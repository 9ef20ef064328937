//! The verbs against a server that notes what it is asked.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tonic::{Request, Response, Status};

use super::{super::*, with_session};
use crate::{
    cli::{args::*, session::Format},
    proto::v1::{
        self, BatchWriteRequest, BatchWriteResponse, Change, ChangeType, Changes, CreateResourceRequest,
        CreateResourceResponse, DeleteResourceRequest, DeleteResourceResponse, FieldDiff, GetResourceRequest,
        GetResourceResponse, ListResourcesRequest, ListResourcesResponse, ResourceDiff, Synced,
        UpdateResourceRequest, UpdateResourceResponse, WatchConfigRequest, WatchConfigResponse,
        config_service_server::{ConfigService, ConfigServiceServer},
        watch_config_response::Event,
    },
};

#[derive(Clone, Default)]
struct Fake {
    updates: Arc<Mutex<Vec<UpdateResourceRequest>>>,
    batches: Arc<Mutex<Vec<BatchWriteRequest>>>,
}

fn named(name: &str) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        etag: "e1".into(),
        labels: [("kept".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    }
}

fn diff(name: &str) -> ResourceDiff {
    let field =
        FieldDiff { path: "provider.display_name".into(), before: String::new(), after: "\"Groq\"".into() };
    ResourceDiff { name: name.into(), r#type: ChangeType::Updated.into(), fields: vec![field] }
}

#[tonic::async_trait]
impl ConfigService for Fake {
    type WatchConfigStream = tokio_stream::Iter<std::vec::IntoIter<Result<WatchConfigResponse, Status>>>;

    async fn get_resource(
        &self,
        request: Request<GetResourceRequest>,
    ) -> Result<Response<GetResourceResponse>, Status> {
        if request.metadata().get("authorization").is_none_or(|token| token != "Bearer a-token") {
            return Err(Status::unauthenticated("there is no token"));
        }
        match request.into_inner().name.as_str() {
            "providers/none" => Err(Status::not_found("there is no providers/none")),
            name => {
                Ok(Response::new(GetResourceResponse { resource: Some(named(name)), ..Default::default() }))
            }
        }
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let (name, next) = match request.get_ref().page_token.as_str() {
            "" => ("providers/a", "second"),
            _ => ("providers/b", ""),
        };
        let resources = vec![named(name)];
        Ok(Response::new(ListResourcesResponse {
            resources,
            next_page_token: next.into(),
            ..Default::default()
        }))
    }

    async fn update_resource(
        &self,
        request: Request<UpdateResourceRequest>,
    ) -> Result<Response<UpdateResourceResponse>, Status> {
        let request = request.into_inner();
        let name = request.resource.clone().unwrap_or_default().name;
        self.updates.lock().unwrap().push(request);
        Ok(Response::new(UpdateResourceResponse {
            revision: 7,
            diff: Some(diff(&name)),
            warnings: vec!["mind this".into()],
            ..Default::default()
        }))
    }

    async fn batch_write(
        &self,
        request: Request<BatchWriteRequest>,
    ) -> Result<Response<BatchWriteResponse>, Status> {
        let request = request.into_inner();
        let result = v1::BatchResult { diffs: vec![diff("providers/groq")], ..Default::default() };
        let results = vec![result; request.operations.len()];
        self.batches.lock().unwrap().push(request);
        Ok(Response::new(BatchWriteResponse { results, revision: 8, ..Default::default() }))
    }

    async fn watch_config(
        &self,
        _: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let deleted = Change {
            r#type: ChangeType::Deleted.into(),
            name: "providers/groq".into(),
            action: "deleted".into(),
            actor: "ops".into(),
            ..Default::default()
        };
        let synced =
            Synced { revision: 1, resume_token: "r1".into(), view_id: "v".into(), ..Default::default() };
        let changes = Changes {
            revision: 2,
            changes: vec![deleted],
            last: true,
            resume_token: "r2".into(),
            ..Changes::default()
        };
        let event = |event| Ok(WatchConfigResponse { event: Some(event) });
        let expired = Err(Status::unauthenticated("the token has expired"));
        let events = vec![event(Event::Synced(synced)), event(Event::Changes(changes)), expired];
        Ok(Response::new(tokio_stream::iter(events)))
    }

    async fn list_history(
        &self,
        request: Request<v1::ListHistoryRequest>,
    ) -> Result<Response<v1::ListHistoryResponse>, Status> {
        let entry = |revision| v1::HistoryEntry { revision, ..Default::default() };
        let entries = (1..=7).rev().map(entry).take(request.get_ref().page_size as usize).collect();
        Ok(Response::new(v1::ListHistoryResponse { entries, ..Default::default() }))
    }

    async fn diff_revisions(
        &self,
        request: Request<v1::DiffRevisionsRequest>,
    ) -> Result<Response<v1::DiffRevisionsResponse>, Status> {
        let v1::DiffRevisionsRequest { from_revision, to_revision, .. } = request.into_inner();
        let diffs = vec![diff(&format!("from {from_revision} to {to_revision}"))];
        Ok(Response::new(v1::DiffRevisionsResponse { diffs, ..Default::default() }))
    }

    async fn rollback_resource(
        &self,
        request: Request<v1::RollbackResourceRequest>,
    ) -> Result<Response<v1::RollbackResourceResponse>, Status> {
        let name = request.into_inner().name;
        let back = ResourceDiff { r#type: ChangeType::Created.into(), ..diff(&name) };
        Ok(Response::new(v1::RollbackResourceResponse {
            revision: 9,
            diff: Some(back),
            ..Default::default()
        }))
    }

    async fn rollback_all(
        &self,
        _: Request<v1::RollbackAllRequest>,
    ) -> Result<Response<v1::RollbackAllResponse>, Status> {
        Err(Status::unimplemented("tested with the real server"))
    }

    async fn create_resource(
        &self,
        _: Request<CreateResourceRequest>,
    ) -> Result<Response<CreateResourceResponse>, Status> {
        Err(Status::unimplemented("not used by the command line"))
    }

    async fn delete_resource(
        &self,
        _: Request<DeleteResourceRequest>,
    ) -> Result<Response<DeleteResourceResponse>, Status> {
        Err(Status::failed_precondition("providers/groq is in use"))
    }
}

/// Runs one command line against the fake; gives the exit code and what was written.
fn run_line(fake: &Fake, format: Format, input: &str, line: &str) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "a-token\n").unwrap();
    let mut cli = Cli::try_parse_from(line.split(' ')).unwrap();
    cli.target.token_file = Some(token_file);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (outcome, out, err) = with_session(format, input, |session| {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            cli.target.server = Some(format!("http://{}", listener.local_addr().unwrap()));
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server =
                tonic::transport::Server::builder().add_service(ConfigServiceServer::new(fake.clone()));
            tokio::spawn(server.serve_with_incoming(incoming));
            Box::pin(dispatch(session, &cli)).await
        })
    });
    let failure = outcome.err();
    let told = failure.as_ref().map(ToString::to_string).unwrap_or_default();
    (failure.map_or(0, |failure| failure.exit() as u8), out, err + &told)
}

fn run_table(fake: &Fake, line: &str) -> (u8, String, String) {
    run_line(fake, Format::Table, "", line)
}

#[test]
fn set_sends_what_the_flags_say() {
    let fake = Fake::default();
    let (exit, out, err) =
        run_table(&fake, "signalbox set providers/groq --field display_name=Groq --reason because");
    assert_eq!((exit, err.as_str()), (0, "warning: mind this\n"));
    assert_eq!(out, "providers/groq updated at revision 7\n  provider.display_name: (not set) -> \"Groq\"\n");
    let sent = fake.updates.lock().unwrap().pop().unwrap();
    assert_eq!(sent.update_mask.unwrap().paths, ["provider.display_name"]);
    assert!(sent.allow_missing && !sent.validate_only && sent.reason == "because");
    assert_eq!(sent.resource.unwrap().etag, "", "nothing was read, so nothing is required");
}

#[test]
fn labels_are_added_to_what_is_there() {
    let fake = Fake::default();
    let (exit, out, err) = run_table(&fake, "signalbox set providers/groq -l env=prod --dry-run");
    assert!(
        exit == 0 && out.starts_with("providers/groq would be updated") && err.contains("dry run"),
        "{out}{err}"
    );
    let sent = fake.updates.lock().unwrap().pop().unwrap();
    let resource = sent.resource.unwrap();
    assert_eq!(resource.etag, "e1");
    assert_eq!(resource.labels.keys().collect::<Vec<_>>(), ["env", "kept"]);
    assert!(sent.validate_only);
    assert_eq!(run_table(&fake, "signalbox set providers/none -l env=prod").0, 0, "it may be new");
}

#[test]
fn files_are_written_as_one_batch() {
    let fake = Fake::default();
    let yaml = "name: providers/a\nprovider: {type: groq}\n---\nname: settings/x\nsetting: {int_value: 1}\n";
    let (exit, out, _) = run_line(&fake, Format::Table, yaml, "signalbox set -f -");
    assert!(exit == 0 && out.contains("at revision 8"), "{out}");
    let sent = fake.batches.lock().unwrap().pop().unwrap();
    assert_eq!(sent.operations.len(), 2);
    let (exit, _, err) =
        run_line(&fake, Format::Table, "name: providers/a\nprovider: {typ: x}", "signalbox set -f -");
    assert!(exit == 2 && err.contains("providers/a: provider.typ: there is no such field"), "{err}");
    assert!(fake.batches.lock().unwrap().is_empty());
}

#[test]
fn lists_follow_their_pages() {
    let (exit, out, _) = run_line(&Fake::default(), Format::Json, "", "signalbox list");
    let names: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, 0);
    assert_eq!(names.iter().map(|name| &name["name"]).collect::<Vec<_>>(), ["providers/a", "providers/b"]);
}

#[test]
fn regression_a_provider_that_is_back_has_none_of_its_keys() {
    let fake = Fake::default();
    let back = |name: &str| run_table(&fake, &format!("signalbox rollback {name} --to 3 --yes"));
    let (exit, _, told) = back("providers/groq");
    let whole = "`signalbox rollback --all --to 3 providers/groq 'providers/groq/*'`";
    assert!(exit == 0 && told.contains(whole), "{told}");
    for name in ["providers/groq/apiKeys/prod", "settings/x"] {
        assert!(!back(name).2.contains("API keys"), "{name}");
    }
}

#[test]
fn regression_without_revisions_what_the_newest_has_changed_is_told() {
    let fake = Fake::default();
    for (line, told) in [("", "from 6 to 7"), (" 3", "from 3 to 0"), (" 3 5", "from 3 to 5")] {
        let (exit, out, err) = run_table(&fake, &format!("signalbox diff{line}"));
        assert!(exit == 0 && out.starts_with(told), "{out}{err}");
    }
}

#[test]
fn regression_a_collection_is_listed_and_not_got() {
    let (exit, _, told) = run_table(&Fake::default(), "signalbox get providers");
    assert_eq!(exit, 2);
    assert!(told.contains("`signalbox list providers` shows what is in it"), "{told}");
}

#[test]
fn failures_have_their_exit_codes() {
    let fake = Fake::default();
    assert_eq!(run_table(&fake, "signalbox get providers/groq").0, 0, "the token went with it");
    assert_eq!(run_table(&fake, "signalbox get providers/none").0, 3);
    let (exit, _, err) = run_table(&fake, "signalbox delete providers/groq --yes");
    assert_eq!((exit, err.as_str()), (5, "providers/groq is in use"));
    let (exit, _, err) = run_table(&fake, "signalbox status");
    assert!(exit == 1 && err.contains("is that a Signalbox server"), "{err}");
}

#[test]
fn a_watch_prints_until_its_end() {
    let (exit, out, err) = run_table(&Fake::default(), "signalbox watch");
    assert_eq!(out, "1 SYNCED\n2 DELETED providers/groq (deleted by ops)\n");
    assert_eq!(exit, 4);
    assert!(err.ends_with("\nhint: to go on from here: --resume-token r2 --view-id v"), "{err}");
    let (_, out, _) = run_line(&Fake::default(), Format::Json, "", "signalbox watch");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["changes"]["changes"][0]["type"], "CHANGE_TYPE_DELETED");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [Format::Table, Format::Json, Format::Yaml] {
        let (failure, _, _) = with_session(format, "", |session| {
            let mut closed = Closed;
            let mut session = Session { out: &mut closed, ..shortened(session) };
            let shown = session.document(&serde_json::json!({"a": 1}));
            shown.and_then(|shown| if shown { Ok(()) } else { session.line("a") })
        });
        assert_eq!(failure, Err(Failure::Pipe), "{format:?}");
    }
}

/// The same session under a shorter borrow, so that one part of it can be replaced.
fn shortened<'s>(session: &'s mut Session<'_>) -> Session<'s> {
    Session {
        out: &mut *session.out,
        err: &mut *session.err,
        input: &mut *session.input,
        env: session.env,
        release: session.release,
        clock: session.clock,
        interactive: session.interactive,
        format: session.format,
        quiet: session.quiet,
    }
}

#[test]
fn a_token_file_that_was_named_must_be_there() {
    let (failure, _, _) = with_session(Format::Table, "", |session| {
        let target = Target { token_file: Some(PathBuf::from("/no/such")), ..Default::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connect::connect(session, &target)).err()
    });
    let failure = failure.unwrap();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().starts_with("--token-file: can't read the token: /no/such"));
}

#[test]
fn regression_a_token_file_that_never_ends_is_refused() {
    let of = |path: &str| {
        let (failure, _, _) = with_session(Format::Table, "", |session| {
            let target = Target {
                token_file: Some(PathBuf::from(path)),
                server: Some("http://127.0.0.1:1".to_owned()),
                ..Default::default()
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(connect::connect(session, &target)).err()
        });
        failure.unwrap().to_string()
    };
    assert!(of("/dev/zero").contains("--token-file: can't read /dev/zero: it is larger than 64 KiB"));
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("token");
    std::fs::write(&large, "x".repeat(70 * 1024)).unwrap();
    assert!(of(large.to_str().unwrap()).contains("longer than 65536 bytes"));
    assert!(of(folder.path().to_str().unwrap()).contains("no file"));
    // The pipe of `<(...)` is read to its end.
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let writing = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(writing, "a-token\n"));
    let told = of(pipe.to_str().unwrap());
    assert!(!told.contains("--token-file") && told.contains("is the server running"), "{told}");
    writer.join().unwrap().unwrap();
}
