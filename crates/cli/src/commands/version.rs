//! `mtor version`.

use serde_json::json;

use super::Context;
use crate::failure::Failure;

#[expect(clippy::unnecessary_wraps, reason = "every command may fail")]
pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let object =
        json!({"program": "mtor", "version": version, "system": system, "machine": machine});
    context.out.show(&object, format_args!("mtor {version} ({system}, {machine})"));
    Ok(())
}
