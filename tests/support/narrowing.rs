//! A template that uses a model of a provider, and writers who narrow the one and the other: walks for both databases.

use signalbox::proto::v1::{
    GetResourceRequest, ModelSpec, PromptTemplateSpec, Resource, UpdateResourceRequest, resource::Spec,
};
use tonic::{Code, Status};

use super::{
    caller::Caller,
    resources::{named, provider},
};

/// A provider that may be asked for these models.
pub fn offering(name: &str, models: &[&str]) -> Resource {
    let mut resource = provider(name);
    if let Some(Spec::Provider(spec)) = &mut resource.spec {
        spec.models = models.iter().map(|id| (*id).to_owned()).collect();
    }
    resource
}

/// A model that its provider is asked for by this name.
pub fn called(name: &str, model_id: &str) -> Resource {
    named(name, Spec::Model(ModelSpec { model_id: model_id.into(), ..ModelSpec::default() }))
}

/// A template of both.
pub fn using(id: &str, provider: &str, model: &str) -> Resource {
    let (provider, model, template) = (provider.into(), model.into(), "Say it.".into());
    let spec = PromptTemplateSpec { template, provider, model, ..PromptTemplateSpec::default() };
    named(&format!("promptTemplates/{id}"), Spec::PromptTemplate(spec))
}

async fn put(caller: &Caller, resource: Resource) -> Result<(), Status> {
    let request = UpdateResourceRequest {
        resource: Some(resource),
        allow_missing: true,
        ..UpdateResourceRequest::default()
    };
    caller.config().update_resource(request).await.map(drop)
}

/// One takes away from the provider what the template's model is called, while the other calls the model so as to need it:
/// each would be right without the other.
pub async fn race(here: &Caller, there: &Caller, rounds: usize) {
    for round in 0..rounds {
        let (provider, model) = (format!("providers/r{round}"), format!("models/r{round}/m"));
        put(here, offering(&provider, &["a", "b"])).await.expect("the provider");
        put(here, called(&model, "a")).await.expect("the model");
        put(here, using(&format!("t{round}"), &provider, &model)).await.expect("the template");
        let seen = GetResourceRequest { name: model.clone(), ..GetResourceRequest::default() };
        let seen = here.config().get_resource(seen).await.expect("it is there").into_inner().revision_token;
        let seen = GetResourceRequest {
            name: model.clone(),
            min_revision_token: seen,
            ..GetResourceRequest::default()
        };
        there.config().get_resource(seen).await.expect("it is waited for");
        let (narrowed, renamed) =
            tokio::join!(put(here, offering(&provider, &["a"])), put(there, called(&model, "b")));
        let refused: Vec<Status> = [narrowed, renamed].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1, "round {round}: exactly one is refused: {refused:?}");
        assert_eq!(refused[0].code(), Code::FailedPrecondition, "round {round}: {:?}", refused[0]);
    }
}
