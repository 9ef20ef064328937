//! What a write needs and is not there: all of it is told, each with its field, and nothing of what the caller can't reach.

use signalbox::proto::v1::{CreateResourceRequest, Role, resource::Spec};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    attempt, router,
    support::{
        caller::Rights,
        resources::{api_key, by_kind, by_prefix, provider},
        server::Server,
        writer::Op,
    },
    template,
};

/// Field, reason and subject of each thing that is not there.
fn unmet(status: &Status) -> Vec<(String, String, String)> {
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("the fields").field_violations;
    let subjects = &details.precondition_failure().expect("the subjects").violations;
    assert_eq!(violations.len(), subjects.len(), "{status:?}");
    violations
        .iter()
        .zip(subjects)
        .map(|(violation, of)| (violation.field.clone(), violation.reason.clone(), of.subject.clone()))
        .collect()
}

#[tokio::test]
async fn regression_all_that_is_not_there_is_told_with_its_field() {
    let server = Server::start().await;
    let admin = server.admin();
    let mut routed = router("r", &["none", "a", "gone"]);
    if let Some(Spec::Router(spec)) = &mut routed.spec {
        spec.fallbacks.swap(0, 1);
    }
    let asking = template("t", |spec| {
        (spec.model, spec.tools) = ("models/a/none".into(), vec!["tools/none".into()]);
    });
    let ops = [provider("providers/a"), routed, asking, api_key("providers/lost/apiKeys/k", "sk-0123456789")];
    let status = attempt(&admin, ops.into_iter().map(Op::Create).collect()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let parent = ("operations[3].create.resource.name", "PARENT_MISSING", "providers/lost");
    let reference = |field: &'static str, subject: &'static str| (field, "REFERENCE_MISSING", subject);
    let expected = [
        parent,
        reference("operations[2].create.resource.prompt_template.model", "models/a/none"),
        reference("operations[2].create.resource.prompt_template.tools[0]", "tools/none"),
        reference("operations[1].create.resource.router.primary", "providers/none"),
        reference("operations[1].create.resource.router.fallbacks[0]", "providers/gone"),
    ];
    let expected = expected.map(|(field, reason, subject)| (field.into(), reason.into(), subject.into()));
    assert_eq!(unmet(&status), expected);
    // Many are told as far as they fit, and counted.
    let many: Vec<String> =
        (0..200).map(|number| format!("tools/a-tool-that-nobody-has-made-{number}")).collect();
    let greedy = (0..4).map(|number| {
        Op::Create(template(&format!("t{number}"), |spec| spec.tools = many[number * 50..][..50].to_vec()))
    });
    let status = attempt(&admin, greedy.collect()).await.unwrap_err();
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!(info.metadata["violations"], "200");
    assert!((5..200).contains(&unmet(&status).len()), "{status:?}");
    assert!(status.details().len() < 8_000, "{}", status.details().len());
}

#[tokio::test]
async fn regression_a_parent_beyond_the_grants_looks_the_same_whether_it_is_there_or_not() {
    let server = Server::start().await;
    let admin = server.admin();
    attempt(&admin, vec![Op::Create(provider("providers/hidden"))]).await.unwrap();
    let rights = |grants| Rights { role: Role::Admin, ..Rights::worker(grants, false) };
    let narrow = admin.colleague("narrow", &rights(vec![by_kind("api_key")])).await;
    let key =
        |parent: &str| vec![Op::Create(api_key(&format!("providers/{parent}/apiKeys/k"), "sk-0123456789"))];
    let mut told = Vec::new();
    for parent in ["hidden", "none"] {
        let status = attempt(&narrow, key(parent)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        told.push(status.message().replace(parent, "PARENT"));
    }
    assert_eq!(told[0], told[1]);
    // Who was told the provider's name by the grant makes keys of it, and learns when it is not there.
    let grants = vec![by_prefix("providers/hidden/apiKeys/"), by_prefix("providers/none/apiKeys/")];
    let keeper = admin.colleague("keeper", &rights(grants)).await;
    attempt(&keeper, key("hidden")).await.unwrap();
    let status = attempt(&keeper, key("none")).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "PARENT_MISSING");
}

/// A single write names its fields as it was sent.
#[tokio::test]
async fn regression_a_single_write_is_told_its_own_fields() {
    let server = Server::start().await;
    let resource = Some(router("r", &["none"]));
    let request = CreateResourceRequest { resource, ..Default::default() };
    let status = server.admin().config().create_resource(request).await.unwrap_err();
    let expected = ("resource.router.primary", "REFERENCE_MISSING", "providers/none");
    let expected = (expected.0.to_owned(), expected.1.to_owned(), expected.2.to_owned());
    assert_eq!(unmet(&status), [expected]);
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["field"], "resource.router.primary");
}
