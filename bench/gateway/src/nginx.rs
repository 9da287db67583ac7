//! nginx as a pass-through to a direct mock, where it is installed: what any hop costs here.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::Process;

const START_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Nginx {
    pub process: Process,
    pub address: SocketAddr,
}

impl Nginx {
    /// `None` where there is no nginx.
    pub(crate) fn start(core: usize, upstream: SocketAddr, folder: &Path) -> Result<Option<Self>> {
        let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
        let Some(program) = places.iter().map(PathBuf::from).find(|place| place.exists()) else {
            return Ok(None);
        };
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = folder.join("nginx");
        std::fs::create_dir_all(&folder)?;
        let configuration = folder.join("nginx.conf");
        std::fs::write(&configuration, text(address, upstream, &folder))?;
        let file = configuration.to_str().context("the folder's name")?;
        let place = folder.to_str().context("the folder's name")?;
        let arguments = ["-p", place, "-e", "stderr", "-c", file];
        let process = Process::spawn(core, &program, &arguments, Stdio::null())?;
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if begun.elapsed() > START_PATIENCE {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(Self { process, address }))
    }
}

/// One process in the foreground, so that its processor time is all of it.
fn text(listen: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/body;\n\
         proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
         keepalive_requests 100000000; client_max_body_size 32m; client_body_buffer_size 2m;\n\
         upstream mock {{ server {upstream}; keepalive 128; }}\n\
         server {{ listen {listen}; location / {{ proxy_pass http://mock;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n"
    )
}
