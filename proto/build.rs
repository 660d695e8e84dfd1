//! Compiles the .proto files with protox, so that building needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=voiceping");
    let descriptors = protox::compile(["voiceping/media/v1/media.proto", "voiceping/media/v1/relay.proto"], ["."])?;
    // For gRPC reflection.
    let file = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(file, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
