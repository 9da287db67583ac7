//! Says what to do where the page that this crate embeds is not built.

fn main() {
    let page = "../../web/dist/index.html";
    println!("cargo::rerun-if-changed={page}");
    if !std::path::Path::new(page).exists() {
        println!("cargo::error=the page is not built: run `make page` first, then this again");
    }
}
