//! Compiles `proto/` without a system `protoc`, and keeps the descriptor set for reflection and canonical JSON.

#[path = "build/families.rs"]
mod families;
#[path = "build/generated.rs"]
mod generated;

use std::{env, error::Error, fs, path::PathBuf};

/// The package that is compiled, relative to `proto/`.
const PACKAGE: &str = "signalbox/v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={}", families::FAMILIES);
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
    let pool = prost_reflect::DescriptorPool::decode(encoded.as_slice())?;
    fs::write(out.join("client_kinds.rs"), generated::client_kinds(&pool)?)?;
    fs::write(out.join("secret_fields.rs"), generated::secret_fields(&pool)?)?;
    fs::write(out.join("families.rs"), families::families(&pool)?)?;
    if server {
        fs::write(out.join("spec_arms.rs"), generated::spec_arms(&pool)?)?;
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
