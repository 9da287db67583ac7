//! What the mock answers, the same from the worker behind the realm and from the direct ceiling.

/// The result of a chat that is not streamed.
pub(crate) const COMPLETION: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
/// One piece of a chat that is.
pub(crate) const PIECE: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[{"index":0,"delta":{"content":"fox "},"finish_reason":null}]}"#;

/// Answers in [`PIECES`] pieces.
pub(crate) const MODEL: &str = "mock";
/// Answers in [`BURST`] pieces, all at once.
pub(crate) const MODEL_BURST: &str = "mock-burst";
pub(crate) const PIECES: usize = 8;
pub(crate) const BURST: usize = 64;
