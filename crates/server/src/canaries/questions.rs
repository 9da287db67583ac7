//! What the realm asks a worker to see whether it can do its work, and when an answer is right.
//!
//! Where the realm knows the answer itself (`echo`, `fft`) it compares; for a model it compares with
//! what a worker of its own, which offers the same model, says to the same question. Of any other kind
//! it knows no answer: there the sysop's word proves a worker.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mtor_types::standing::KindName;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Points of a transform.
const POINTS: u32 = 64;
/// Relative, for single precision.
const FFT_ERROR_MAX: f64 = 1e-4;
/// Two machines round differently.
const COSINE_MIN: f64 = 0.99;
/// Words of an answer that are looked at.
const WORDS: usize = 8;
const OUTPUT_TOKENS: u64 = 24;

#[derive(Clone, Debug)]
pub struct Question {
    pub data: Bytes,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    /// The data itself.
    Same,
    /// Of these points, real and imaginary.
    Spectrum(Vec<(f64, f64)>),
    /// What the realm's own worker says to it.
    Vector,
    Words,
}

/// Who says what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Realm,
    /// A worker of the realm's own, asked the same.
    OwnWorker,
}

const PLACES: [&str; 16] = [
    "France", "Japan", "Egypt", "Norway", "Peru", "Kenya", "Canada", "Italy", "Greece", "Cuba",
    "Spain", "Austria", "Iran", "Poland", "Chile", "Ireland",
];

impl Question {
    /// Who knows the answers in that kind; `None` if nobody does, and there is no question.
    pub fn measure(kind: &KindName) -> Option<Measure> {
        match (kind.intent.as_str(), &kind.model) {
            ("echo" | "fft", None) => Some(Measure::Realm),
            ("embed" | "chat", Some(_)) => Some(Measure::OwnWorker),
            _ => None,
        }
    }

    /// A question of that kind that nobody can have guessed; `None` if the realm knows no answer.
    pub fn draw(kind: &KindName, random: [u8; 32]) -> Option<Self> {
        let [first, second, third, ..] = random.map(u32::from);
        let (data, answer) = match (kind.intent.as_str(), kind.model.as_deref()) {
            ("echo", None) => {
                let secret = random.map(|byte| format!("{byte:02x}")).concat();
                (json!({ "text": secret }), Answer::Same)
            }
            ("fft", None) => spectrum(random),
            ("embed", Some(model)) => {
                let text = format!("{} and {} things in {}", first, second, place(third));
                (json!({ "model": model, "input": text }), Answer::Vector)
            }
            ("chat", Some(model)) => {
                let text = if third % 2 == 0 {
                    format!(
                        "What is {} plus {}? Answer with the number only.",
                        first % 50,
                        second % 50
                    )
                } else {
                    format!("Which city is the capital of {}? One word.", place(first))
                };
                let messages = [json!({ "role": "user", "content": text })];
                let limit = OUTPUT_TOKENS;
                let data = json!({
                    "model": model, "messages": messages, "temperature": 0, "max_tokens": limit
                });
                (data, Answer::Words)
            }
            _ => return None,
        };
        Some(Self { data: data.to_string().into(), answer })
    }

    /// Whether the realm's own worker must be asked, too.
    pub fn needs_own(&self) -> bool {
        match self.answer {
            Answer::Same | Answer::Spectrum(_) => false,
            Answer::Vector | Answer::Words => true,
        }
    }

    /// `own`: what the realm's own worker said to it. `None`: that cannot be told, since its own answer
    /// is none.
    pub fn is_right(&self, result: &[u8], own: Option<&[u8]>) -> Option<bool> {
        match &self.answer {
            Answer::Same => {
                let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
                Some(read(result).is_some_and(|said| Some(said) == read(&self.data)))
            }
            Answer::Spectrum(points) => Some(is_spectrum(points, result)),
            Answer::Vector => {
                let own = vector(own?)?;
                Some(vector(result).is_some_and(|said| cosine(&said, &own) >= COSINE_MIN))
            }
            Answer::Words => {
                // A short answer ends with what it comes to: "7", "It is 7." and "7" are one. Of a long
                // one that cannot be told.
                let own = words(own?).filter(|own| own.len() < WORDS)?;
                let last = own.last()?;
                Some(words(result).is_some_and(|said| said.contains(last)))
            }
        }
    }
}

fn place(number: u32) -> &'static str {
    let at = usize::try_from(number).unwrap_or_default() % PLACES.len();
    PLACES.get(at).copied().unwrap_or_default()
}

fn spectrum(random: [u8; 32]) -> (Value, Answer) {
    // Of a byte each, so that every number is exact in single precision.
    let number = |at: u32| {
        let at = usize::try_from(at).unwrap_or_default();
        let byte = random.get(at % 32).copied().unwrap_or_default();
        f32::from(byte.rotate_left(u32::try_from(at / 32).unwrap_or_default())) - 128.0
    };
    let numbers: Vec<f32> = (0..POINTS * 2).map(number).collect();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let points = numbers.chunks_exact(2).map(|pair| match *pair {
        [re, im] => (f64::from(re), f64::from(im)),
        _ => (0.0, 0.0),
    });
    let data = json!({
        "dtype": "c64", "shape": [POINTS], "direction": "forward", "output": "complex",
        "data": BASE64_STANDARD.encode(bytes),
    });
    (data, Answer::Spectrum(points.collect()))
}

#[derive(Deserialize)]
struct Transformed {
    data: String,
}

/// Against the sum that a transform is, point by point.
fn is_spectrum(points: &[(f64, f64)], result: &[u8]) -> bool {
    let Ok(Transformed { data }) = serde_json::from_slice(result) else { return false };
    let Ok(bytes) = BASE64_STANDARD.decode(data) else { return false };
    let numbers = bytes.chunks_exact(4).filter_map(|four| four.try_into().ok());
    let said: Vec<f64> = numbers.map(|four| f64::from(f32::from_le_bytes(four))).collect();
    if said.len() != points.len() * 2 || bytes.len() != said.len() * 4 {
        return false;
    }
    let n = points.len() as f64;
    let norm = points.iter().map(|(re, im)| re * re + im * im).sum::<f64>().sqrt();
    let bound = FFT_ERROR_MAX * norm * n.sqrt();
    said.chunks_exact(2).enumerate().all(|(k, pair)| {
        let sum = points.iter().enumerate().fold((0.0, 0.0), |(re, im), (j, (x, y))| {
            let turn = -std::f64::consts::TAU * ((j * k) as f64) / n;
            let (sin, cos) = turn.sin_cos();
            (re + x * cos - y * sin, im + x * sin + y * cos)
        });
        let [re, im] = pair else { return false };
        (re - sum.0).abs() <= bound && (im - sum.1).abs() <= bound
    })
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f64>,
}

fn vector(result: &[u8]) -> Option<Vec<f64>> {
    let Embeddings { data } = serde_json::from_slice(result).ok()?;
    let first = data.into_iter().next()?.embedding;
    (!first.is_empty() && first.iter().all(|number| number.is_finite())).then_some(first)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// The first of them, without case and signs.
fn words(result: &[u8]) -> Option<Vec<String>> {
    let completion: Completion<'_> = serde_json::from_slice(result).ok()?;
    let content = completion.choices.first()?.message.content?;
    let text: String = serde_json::from_str(content.get()).ok()?;
    let words =
        text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    Some(words.take(WORDS).map(str::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(intent: &str, model: Option<&str>, random: u8) -> Option<Question> {
        let kind = KindName { intent: intent.into(), model: model.map(str::to_owned) };
        Question::draw(&kind, [random; 32])
    }

    #[test]
    fn an_echo_is_right_if_it_is_the_same_and_no_two_are() {
        let (one, other) = (draw("echo", None, 1).unwrap(), draw("echo", None, 2).unwrap());
        assert_eq!(one.is_right(&one.data, None), Some(true));
        assert_eq!(one.is_right(&other.data, None), Some(false));
        assert_eq!(one.is_right(b"", None), Some(false));
    }

    fn answer(points: &[(f64, f64)], off: f32) -> Vec<u8> {
        let n = points.len();
        let mut bytes = Vec::new();
        for k in 0..n {
            let (mut re, mut im) = (0.0, 0.0);
            for (j, (x, y)) in points.iter().enumerate() {
                let turn = -std::f64::consts::TAU * (j * k % n) as f64 / n as f64;
                re += x * turn.cos() - y * turn.sin();
                im += x * turn.sin() + y * turn.cos();
            }
            for number in [re, im] {
                bytes.extend((number as f32 + if k == 3 { off } else { 0.0 }).to_le_bytes());
            }
        }
        json!({ "dtype": "c64", "shape": [n], "data": BASE64_STANDARD.encode(bytes) })
            .to_string()
            .into()
    }

    #[test]
    fn a_transform_is_right_within_its_precision() {
        let kind = KindName { intent: "fft".into(), model: None };
        let mut random = [0; 32];
        (0..32_u8).for_each(|at| random[usize::from(at)] = at.wrapping_mul(37).wrapping_add(5));
        let question = Question::draw(&kind, random).unwrap();
        let Answer::Spectrum(points) = question.answer.clone() else { unreachable!() };
        assert_eq!(points.len(), 64);
        assert_eq!(question.is_right(&answer(&points, 0.0), None), Some(true));
        assert_eq!(question.is_right(&answer(&points, 10.0), None), Some(false));
        for wrong in [&b"{}"[..], br#"{"data":"!!"}"#, br#"{"data":"AAAA"}"#] {
            assert_eq!(question.is_right(wrong, None), Some(false));
        }
    }

    #[test]
    fn a_vector_is_compared_with_the_realms_own() {
        let question = draw("embed", Some("m"), 7).unwrap();
        assert!(question.needs_own());
        let of = |numbers: &str| format!(r#"{{"data":[{{"embedding":[{numbers}]}}]}}"#);
        let own = of("1, 0.5, -2");
        let right = |said: &str| question.is_right(said.as_bytes(), Some(own.as_bytes()));
        assert_eq!(right(&of("1.001, 0.5, -2")), Some(true));
        for wrong in [of("1, 0.5"), of("-1, 0.5, 2"), of("0, 0, 0"), of(""), "{}".to_owned()] {
            assert_eq!(right(&wrong), Some(false), "{wrong}");
        }
        assert_eq!(question.is_right(own.as_bytes(), None), None, "nothing to compare with");
        assert_eq!(question.is_right(own.as_bytes(), Some(b"{}")), None);
    }

    #[test]
    fn an_answer_is_right_if_it_holds_what_the_realms_own_comes_to() {
        let question = draw("chat", Some("m"), 9).unwrap();
        let of = |text: &str| json!({"choices": [{"message": {"content": text}}]}).to_string();
        let right = |own: &str, said: &str| {
            let said = if said.starts_with('{') { said.to_owned() } else { of(said) };
            question.is_right(said.as_bytes(), Some(of(own).as_bytes()))
        };
        let own = "The capital of France is Paris.";
        for said in [own, "paris", "It is **Paris**!"] {
            assert_eq!(right(own, said), Some(true), "{said}");
        }
        let wrong = [
            "The capital of France is Lyon.",
            "The",
            "",
            "{",
            "I do not know what the answer is to: Paris",
        ];
        for said in wrong {
            assert_eq!(right(own, said), Some(false), "{said}");
        }
        assert_eq!((right("7", "The sum is 7"), right("7", "17")), (Some(true), Some(false)));
        assert_eq!(right("", "Paris"), None);
        assert_eq!(right("Paris it is, of course, as you know well", "Paris"), None, "too long");
    }

    #[test]
    fn of_other_kinds_the_realm_knows_nothing() {
        for (intent, model) in
            [("speak", Some("m")), ("words", None), ("chat", None), ("fft", Some("m"))]
        {
            assert!(draw(intent, model, 1).is_none(), "{intent}");
        }
    }

    #[test]
    fn there_is_a_question_where_somebody_knows_the_answer() {
        for intent in ["echo", "fft", "embed", "chat", "speak", "words"] {
            for model in [None, Some("m")] {
                let kind = KindName { intent: intent.into(), model: model.map(str::to_owned) };
                let drawn = Question::draw(&kind, [1; 32]);
                let needs_own = Question::measure(&kind).map(|by| by == Measure::OwnWorker);
                assert_eq!(drawn.map(|drawn| drawn.needs_own()), needs_own, "{kind:?}");
            }
        }
    }
}
