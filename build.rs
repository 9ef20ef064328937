//! Compiles `proto/` without a system `protoc`, and keeps the descriptor set for reflection and canonical JSON.

use std::{collections::BTreeMap, env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value};

/// The package that is compiled, relative to `proto/`.
const PACKAGE: &str = "signalbox/v1";
/// What is known of the types of providers: `src/wire/families.rs` says what the files hold.
const FAMILIES: &str = "src/wire/families";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={FAMILIES}");
    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    let client = env::var_os("CARGO_FEATURE_CLIENT").is_some();
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files()?)?;
    let encoded = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("signalbox.v1.bin"), &encoded)?;

    let mut config = prost_build::Config::new();
    // Ordered maps, so that the same content always has the same bytes.
    config.btree_map(["."]);
    // What holds a secret must not show it to a log line; `src/proto.rs` says what is shown instead.
    config.skip_debug([
        ".signalbox.v1.Secret",
        ".signalbox.v1.CreateTokenResponse",
        ".signalbox.v1.CreateResourceResponse",
        ".signalbox.v1.UpdateResourceResponse",
        ".signalbox.v1.BatchResult",
        ".signalbox.v1.ExportConfigRequest",
    ]);
    config.type_attribute(".signalbox.v1.Secret.State", "#[derive(Debug)]");
    let pool = DescriptorPool::decode(encoded.as_slice())?;
    fs::write(out.join("families.rs"), families(&pool)?)?;
    if server {
        fs::write(out.join("spec_arms.rs"), spec_arms(&pool)?)?;
        for message in pool.all_messages().filter(|message| message.package_name() == "signalbox.v1") {
            let name = message.full_name();
            config.type_attribute(name, "#[derive(::prost_reflect::ReflectMessage)]");
            config.type_attribute(
                name,
                format!(
                    "#[prost_reflect(message_name = \"{name}\", descriptor_pool = \"crate::proto::DESCRIPTOR_POOL\")]"
                ),
            );
        }
    }
    tonic_prost_build::configure()
        .build_server(server)
        .build_client(client)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// Every file of the package, by name.
fn files() -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(PathBuf::from("proto").join(PACKAGE))? {
        files.push(format!("{PACKAGE}/{}", entry?.file_name().to_string_lossy()));
    }
    files.sort();
    Ok(files)
}

/// The arms of `Resource.spec` as code, so that a new kind is not listed by hand a second time.
fn spec_arms(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let resource = pool.get_message_by_name("signalbox.v1.Resource").ok_or("no Resource message")?;
    let spec = resource.oneofs().find(|oneof| oneof.name() == "spec").ok_or("no spec in Resource")?;
    let names: Vec<String> = spec.fields().map(|field| field.name().to_owned()).collect();
    let arms: String = names.iter().map(|name| format!("Spec::{}(_) => \"{name}\", ", camel(name))).collect();
    Ok(format!(
        "const ARMS: &[&str] = &{names:?};\nfn arm(spec: &Spec) -> &'static str {{ match spec {{ {arms} }} }}\n"
    ))
}

fn camel(snake: &str) -> String {
    snake.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The families as code: for each file its name, its alternatives, and the spec as bytes, because the client has no
/// reflection to read JSON by.
fn families(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(FAMILIES)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a family without a name")?;
        let Value::Object(family) = serde_json::from_slice(&fs::read(&path)?)? else {
            return Err(format!("{name} is no JSON object").into());
        };
        files.insert(name.to_owned(), family);
    }
    let descriptor =
        pool.get_message_by_name("signalbox.v1.ProviderSpec").ok_or("no ProviderSpec message")?;
    let mut rows = String::new();
    for name in files.keys() {
        let mut family = extended(name, &files)?;
        let alternatives: Vec<(String, String)> = match family.remove("alternatives") {
            Some(alternatives) => {
                serde_json::from_value::<BTreeMap<_, _>>(alternatives)?.into_iter().collect()
            }
            None => Vec::new(),
        };
        let spec = DynamicMessage::deserialize(descriptor.clone(), Value::Object(family))
            .map_err(|error| format!("{FAMILIES}/{name}.json: {error}"))?;
        let spec = spec.encode_to_vec();
        rows += &format!("File {{ name: {name:?}, alternatives: &{alternatives:?}, spec: &{spec:?} }},\n");
    }
    Ok(format!("static FILES: &[File] = &[\n{rows}];\n"))
}

/// A family, put on the one that it extends.
fn extended(
    name: &str,
    files: &BTreeMap<String, Map<String, Value>>,
) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut family = files.get(name).ok_or_else(|| format!("there is no family {name}"))?.clone();
    let Some(of) = family.remove("extends") else { return Ok(family) };
    let of = of.as_str().filter(|of| *of != name).ok_or_else(|| format!("{name} extends no family"))?;
    let mut whole = extended(of, files)?;
    merge(&mut whole, family);
    Ok(whole)
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(&name)),
            Value::Object(patch) => match target.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(inner) => merge(inner, patch),
                other => *other = Value::Object(patch),
            },
            value => drop(target.insert(name, value)),
        }
    }
}
