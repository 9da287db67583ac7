//! `mtor worker`'s servers of models: named ones, those that are found, and what clients call their
//! models.

use std::path::PathBuf;

use clap::Args;
use mtor_types::text::is_plain;
use mtor_worker::{
    AudioOptions, BackendNews, Discovery, ExecutorOptions, ModelNames, OpenAiOptions,
};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::keyring::{Secret, read_secret};

#[derive(Args)]
pub(super) struct Backends {
    /// An OpenAI-compatible server to serve with, such as openai=http://127.0.0.1:11434; its API
    /// key, if it wants one, stands in a file of mode 0600
    #[arg(long, value_name = "openai=URL[,key-file=FILE]", value_parser = backend)]
    backend: Vec<Backend>,
    /// An OpenAI-compatible server of audio to hear and speak with, such as http://127.0.0.1:8000;
    /// its models are those of its list, or those that are named; may stand several times
    #[arg(long, value_name = "URL[,key-file=FILE][,model=NAME]", value_parser = audio)]
    audio: Vec<AudioBackend>,
    /// Serve with Ollama, llama-server, LM Studio and vLLM where they answer on this machine's
    /// usual ports, now or later; under WSL2 on the Windows host's, too
    #[arg(long)]
    discover: bool,
    /// Offer a backend's MODEL to clients as NAME only; may stand several times
    #[arg(long, value_name = "NAME=MODEL", value_parser = served_name)]
    served_model_name: Vec<(String, String)>,
    /// Offer this model although its server runs it on another machine, such as Ollama's cloud
    /// models; may stand several times
    #[arg(long, value_name = "MODEL")]
    backend_model: Vec<String>,
    /// Requests at once at each backend, over all of its models
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
}

/// A model's name in an offer; a realm takes no longer one.
const NAME_BYTES_MAX: usize = 256;

/// Where work is done, and the file of its API key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    url: String,
    key_file: Option<PathBuf>,
}

fn backend(text: &str) -> Result<Backend, String> {
    let parse = || {
        let rest = text.strip_prefix("openai=")?;
        let (url, key_file) = match rest.split_once(",key-file=") {
            Some((url, file)) => (url, Some(file).filter(|file| !file.is_empty())?.into()),
            None => (rest, PathBuf::new()),
        };
        let key_file = Some(key_file).filter(|file| !file.as_os_str().is_empty());
        (!url.is_empty()).then(|| Backend { url: url.to_owned(), key_file })
    };
    parse().ok_or_else(|| {
        "expected openai=URL, such as openai=http://127.0.0.1:11434, or openai=URL,key-file=FILE"
            .into()
    })
}

/// Where it is heard and spoken, the file of its API key, and which of its models are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AudioBackend {
    url: String,
    key_file: Option<PathBuf>,
    models: Vec<String>,
}

fn audio(text: &str) -> Result<AudioBackend, String> {
    let mut parts = text.split(',');
    let url = parts.next().filter(|url| url.contains("://")).map(str::to_owned);
    let parse = |url| {
        let mut backend = AudioBackend { url, key_file: None, models: Vec::new() };
        for part in parts {
            let (name, value) = part.split_once('=').filter(|(_, value)| !value.is_empty())?;
            match name {
                "key-file" if backend.key_file.is_none() => backend.key_file = Some(value.into()),
                "model" => backend.models.push(value.to_owned()),
                _ => return None,
            }
        }
        Some(backend)
    };
    url.and_then(parse).ok_or_else(|| {
        "expected URL, such as http://127.0.0.1:8000, and after it what is needed of \
         ,key-file=FILE and ,model=NAME (the latter several times)"
            .into()
    })
}

fn served_name(text: &str) -> Result<(String, String), String> {
    let expected = || "expected NAME=MODEL, such as good=qwen2.5:7b".to_owned();
    let (name, model) = text.split_once('=').ok_or_else(expected)?;
    if name.is_empty() || model.is_empty() {
        return Err(expected());
    }
    let is_name = name.len() <= NAME_BYTES_MAX && is_plain(name);
    if !is_name {
        return Err(format!(
            "NAME must be 1 to {NAME_BYTES_MAX} bytes without control characters and marks that turn a text"
        ));
    }
    if name == "auto" {
        return Err("`auto` is the realm's default model: take another NAME".into());
    }
    Ok((name.to_owned(), model.to_owned()))
}

impl Backends {
    /// Requests at once, of each model.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn are_any(&self) -> bool {
        self.discover || !self.backend.is_empty()
    }

    pub(super) fn are_audio(&self) -> bool {
        !self.audio.is_empty()
    }

    /// Names that could mean nothing, or two things.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let are_named = !self.served_model_name.is_empty() || !self.backend_model.is_empty();
        if are_named && !self.are_any() && !self.are_audio() {
            let message = "--served-model-name and --backend-model name models of a backend, and \
                           there is none";
            return Err(Failure::usage(message).with_remedy(
                "add --backend openai=URL, --audio URL, or --discover for what runs here",
            ));
        }
        let mut names: Vec<_> = self.served_model_name.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some([name, ..]) => {
                let message = format!("--served-model-name {name}=…: the same NAME twice");
                Err(Failure::usage(message).with_remedy("give each model a NAME of its own"))
            }
            _ => Ok(()),
        }
    }

    /// What is found on this machine stands before the named ones.
    pub(super) fn executors(
        self,
        environment: &Environment,
    ) -> Result<Vec<ExecutorOptions>, Failure> {
        let names = ModelNames::new(self.served_model_name, self.backend_model);
        let mut executors = Vec::new();
        if self.discover {
            let mut discovery = Discovery::new(self.slots, names.clone());
            if let Some(ports) = &environment.discover_ports {
                discovery.ports = discover_ports(ports)?;
            }
            if let Some(proc) = &environment.discover_proc {
                discovery.proc.clone_from(proc);
            }
            executors = mtor_worker::discover(&discovery);
        }
        for Backend { url, key_file } in self.backend {
            let key = key_file.map(|file| read_secret(&file, Secret::BackendKey)).transpose()?;
            let options =
                OpenAiOptions { key, names: names.clone(), ..OpenAiOptions::new(url, self.slots) };
            executors.push(ExecutorOptions::OpenAi(options));
        }
        for AudioBackend { url, key_file, models } in self.audio {
            let key = key_file.map(|file| read_secret(&file, Secret::BackendKey)).transpose()?;
            let (slots, names) = (self.slots, names.clone());
            let options = AudioOptions { url, slots, key, models, names };
            executors.push(ExecutorOptions::Audio(options));
        }
        Ok(executors)
    }
}

/// `MTOR_DISCOVER_PORTS`: ports with commas between them, or none.
fn discover_ports(text: &str) -> Result<Vec<u16>, Failure> {
    let ports = text.split(',').map(str::trim).filter(|port| !matches!(*port, "" | "none"));
    ports.map(|port| port.parse().ok().filter(|port| *port > 0)).collect::<Option<_>>().ok_or_else(
        || {
            Failure::usage(format!("MTOR_DISCOVER_PORTS={text}: expected ports, or `none`"))
                .with_remedy("for example MTOR_DISCOVER_PORTS=11434,8080")
        },
    )
}

/// Statuses of backends, for programs and for people.
pub(super) fn told(news: BackendNews) -> (Value, String) {
    match news {
        BackendNews::LeftOut { backend, model, reason, retry_after } => {
            let retry_after_ms = retry_after.map(|after| after.as_millis());
            let again = retry_after.map(|after| format!("; next try in {} s", after.as_secs()));
            let words = format!("{model} of {backend} is not offered: {reason}");
            (
                json!({"status": "model_left_out", "backend": backend, "model": model, "reason": reason, "retry_after_ms": retry_after_ms}),
                words + &again.unwrap_or_default(),
            )
        }
        BackendNews::Found { server, url, models, listed, untried } => {
            let title = title(server);
            let words = if models.is_empty() {
                let models = if listed == 1 { "model" } else { "models" };
                format!(
                    "found {title} at {url} with {listed} {models}: what it has loaded is offered once it has answered"
                )
            } else {
                format!("{title} at {url} serves {}", models.join(", "))
            };
            (
                json!({"status": "found", "server": server, "url": url, "models": models, "listed": listed, "untried": untried}),
                words,
            )
        }
        BackendNews::Asked { url, model } => (
            json!({"status": "asked", "url": url, "model": model}),
            format!("{model} of {url} is asked whether it answers"),
        ),
        BackendNews::Gone { server, url } => (
            json!({"status": "gone", "server": server, "url": url}),
            format!("{} at {url} is gone", title(server)),
        ),
        BackendNews::Advice { message } => {
            (json!({"status": "advice", "message": message}), message)
        }
    }
}

fn title(server: &str) -> &str {
    match server {
        "ollama" => "Ollama",
        "lm-studio" => "LM Studio",
        "vllm" => "vLLM",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audio_backend_is_its_address_its_key_and_its_models() {
        let url = "http://127.0.0.1:8000/v1".to_owned();
        let bare = AudioBackend { url, key_file: None, models: vec![] };
        assert_eq!(audio("http://127.0.0.1:8000/v1"), Ok(bare.clone()));
        let models = vec!["tts-1".to_owned(), "whisper-1".to_owned()];
        let whole = AudioBackend { key_file: Some("k".into()), models, ..bare };
        let text = "http://127.0.0.1:8000/v1,model=tts-1,key-file=k,model=whisper-1";
        assert_eq!(audio(text), Ok(whole));
        for wrong in [
            "",
            "x",
            "http://x,",
            "http://x,model=",
            "http://x,key=k",
            "http://x,key-file=a,key-file=b",
        ] {
            assert!(audio(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_one_and_not_the_default() {
        let pair = ("good".to_owned(), "qwen2.5:7b=x".to_owned());
        assert_eq!(served_name("good=qwen2.5:7b=x"), Ok(pair));
        let long = "x".repeat(257);
        for wrong in ["good", "=m", "good=", "auto=m", "a\u{7}=m", &format!("{long}=m")] {
            assert!(served_name(wrong).is_err(), "{wrong}");
        }
    }
}
