//! `export`: resources in the form that `import` takes.
//!
//! A file of one YAML document a resource, or of one JSON object with `resources`. Sealed secrets lie beside the resources, in
//! `sealedSecrets`, so that nothing takes one for a value.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use serde_json::{Value, json};

use super::{
    args::{Export, Target},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    selector,
    session::{Format, Session, canonical_all, yaml},
};
use crate::{
    app::{SecretText, private_file},
    client::Connection,
    proto::v1::{ExportConfigRequest, ExportedSecret, Resource},
};

/// Key of the sealed secrets in a file.
pub const SEALED: &str = "sealedSecrets";

/// All parts of an export.
#[derive(Default)]
struct Exported {
    resources: Vec<Resource>,
    secrets: Vec<ExportedSecret>,
    revision: u64,
}

/// Exports what the selectors pick.
pub async fn export(session: &mut Session<'_>, target: &Target, args: &Export) -> Outcome {
    let request = ExportConfigRequest {
        selectors: selector::parse_all(&args.selectors, &args.kind, &args.label)?,
        revision: args.revision,
        export_key: match &args.export_key_file {
            Some(path) => read_key(path)?.expose().trim().to_owned(),
            None => String::new(),
        },
    };
    let mut connection = connect(session, target).await?;
    let exported = receive(session, &mut connection, request).await?;
    let text = written(&exported, is_json(session, args.file.as_deref()))?;
    match &args.file {
        Some(path) => {
            replace(path, &text).map_err(|error| {
                Failure::told(Exit::Failed, format!("can't write {}: {error}", path.display()))
            })?;
            let (resources, secrets) = (exported.resources.len(), exported.secrets.len());
            session.remark(&format!(
                "{resources} resources and {secrets} secrets at revision {} are in {}",
                exported.revision,
                path.display()
            ));
            Ok(())
        }
        None => Ok(session.out.write_all(text.as_bytes())?),
    }
}

/// A key of exports. Whoever else can read it can read the secrets: the file has to be private.
pub fn read_key(path: &Path) -> Result<SecretText, Failure> {
    private_file::read(path).map_err(|error| Failure::usage(format!("--export-key-file: {error}")))
}

async fn receive(
    session: &mut Session<'_>,
    connection: &mut Connection,
    request: ExportConfigRequest,
) -> Result<Exported, Failure> {
    let mut parts = connection.admin.export_config(request).await?.into_inner();
    let mut exported = Exported::default();
    while let Some(part) = parts.message().await? {
        session.warn(&part.warnings);
        exported.resources.extend(part.resources);
        exported.secrets.extend(part.secrets);
        exported.revision = part.revision;
    }
    Ok(exported)
}

fn is_json(session: &Session<'_>, file: Option<&Path>) -> bool {
    let extension = file.and_then(Path::extension).and_then(|extension| extension.to_str());
    match session.format {
        Format::Json => true,
        Format::Yaml => false,
        Format::Table => extension == Some("json"),
    }
}

fn written(exported: &Exported, is_json: bool) -> Result<String, Failure> {
    let resources = canonical_all(&exported.resources)?;
    let secrets: Vec<Value> = exported
        .secrets
        .iter()
        .map(|secret| json!({ "name": secret.name, "field": secret.field, "sealed": secret.sealed }))
        .collect();
    if is_json {
        let mut whole = json!({ "resources": resources });
        if !secrets.is_empty() {
            whole[SEALED] = Value::Array(secrets);
        }
        let text = serde_json::to_string_pretty(&whole).map_err(std::io::Error::from)?;
        return Ok(text + "\n");
    }
    let mut documents = resources;
    if !secrets.is_empty() {
        documents.push(json!({ SEALED: secrets }));
    }
    documents.iter().map(|document| Ok(format!("---\n{}", yaml(document)?))).collect()
}

/// Writes a file of our own beside it, and puts that into its place: whoever reads it never finds a part.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let draft = Path::new(&draft);
    let _ = fs::remove_file(draft);
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
    let written = made.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(draft, path));
    if placed.is_err() {
        let _ = fs::remove_file(draft);
    }
    placed
}
