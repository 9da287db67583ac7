//! JSON Schema, the part of it that a manifest may use, checked in one pass over the text.
//!
//! Why not a crate: `jsonschema` 0.61 without default features is 78 crates and `boon` 0.6 is 73,
//! against the 60-odd of the whole server, and both check a parsed tree, which costs a copy of
//! every request. This one is a visitor: what a schema does not constrain is skipped without a
//! copy, so that a permissive schema (chat) costs no more than the scan.
//!
//! Known keywords: `type`, `enum`, `const`, `minimum`, `maximum`, `minLength`, `maxLength`,
//! `minItems`, `maxItems`, `items`, `properties`, `required`, `additionalProperties`; `title`,
//! `description`, `default`, `examples`, `format`, `contentEncoding`, `contentMediaType`, `$schema`
//! and `$comment` only inform. Any other keyword is refused when the manifest is read: nothing is ignored in silence. Stricter than the
//! standard in one point: a declared property may stand only once.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::admission::json;
use crate::api_error::ApiError;

/// A schema ready to check data.
#[derive(Clone, Debug)]
pub struct Schema(Node);

/// Why a schema cannot be used. `at` is a JSON pointer into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct SchemaError {
    pub at: String,
    pub why: String,
}

/// Levels of a schema; also the bound of the recursion below.
const LEVELS_MAX: usize = 16;
/// Properties of one object: their presence is a bit each.
const PROPERTIES_MAX: usize = 64;

#[derive(Clone, Debug)]
struct Node {
    kinds: u8,
    choices: Vec<Value>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    length: (usize, usize),
    items: (usize, usize),
    item: Option<Box<Node>>,
    properties: Vec<(String, Node)>,
    required: u64,
    additional: Additional,
    description: Option<String>,
}

#[derive(Clone, Debug)]
enum Additional {
    Allowed,
    Refused,
    Checked(Box<Node>),
}

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const INTEGER: u8 = 4;
const NUMBER: u8 = 8 | INTEGER;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;
const ANY: u8 = NULL | BOOLEAN | NUMBER | STRING | ARRAY | OBJECT;

const KINDS: [(&str, u8, &str); 7] = [
    ("null", NULL, "null"),
    ("boolean", BOOLEAN, "true or false"),
    ("number", NUMBER, "a number"),
    ("integer", INTEGER, "a whole number"),
    ("string", STRING, "a text"),
    ("array", ARRAY, "a list"),
    ("object", OBJECT, "an object"),
];

impl Schema {
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        Node::compile(schema, &mut Vec::new()).map(Self)
    }

    /// Whether the schema names this top-level property.
    pub fn declares(&self, property: &str) -> bool {
        self.0.properties.iter().any(|(name, _)| name == property)
    }

    /// Checks `text`, which has passed [`json::text`]: its depth bounds the recursion.
    pub fn check(&self, text: &str) -> Result<(), ApiError> {
        let mut context = Context { path: Vec::new(), fault: None };
        json::read(text, Check { node: &self.0, context: &mut context })
            .map_err(|error| context.fault.unwrap_or_else(|| json::fault(&error)))
    }
}

/// Whatever may stand here.
static FREE: Node = Node {
    kinds: ANY,
    choices: Vec::new(),
    minimum: None,
    maximum: None,
    length: (0, usize::MAX),
    items: (0, usize::MAX),
    item: None,
    properties: Vec::new(),
    required: 0,
    additional: Additional::Allowed,
    description: None,
};

impl Node {
    fn compile(schema: &Value, path: &mut Vec<String>) -> Result<Self, SchemaError> {
        let mut node = FREE.clone();
        if schema == &Value::Bool(true) {
            return Ok(node);
        }
        let map = schema.as_object().ok_or_else(|| wrong(path, "expected an object (or true)"))?;
        if path.len() >= 2 * LEVELS_MAX {
            return Err(wrong(path, "nested too deep"));
        }
        for (keyword, value) in map {
            path.push(keyword.clone());
            node.keyword(keyword, value, path)?;
            path.pop();
        }
        // After the loop: what is required is a bit of what is declared.
        if let Some(Value::Array(names)) = map.get("required") {
            for name in names {
                let found = node.properties.iter().position(|(declared, _)| name == declared);
                let index = found.ok_or_else(|| {
                    wrong(path, "`required` may only name what `properties` declares")
                })?;
                node.required |= 1 << index;
            }
        }
        // TOML cannot write null into an `enum`: it stands in `type` alone.
        let says_null = map
            .get("type")
            .and_then(Value::as_array)
            .is_some_and(|types| types.iter().any(|name| name.as_str() == Some("null")));
        if says_null && map.contains_key("enum") && !node.choices.contains(&Value::Null) {
            node.choices.push(Value::Null);
        }
        Ok(node)
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        path: &mut Vec<String>,
    ) -> Result<(), SchemaError> {
        match keyword {
            "type" => self.kinds = kinds(value).ok_or_else(|| wrong(path, "not a JSON type"))?,
            "enum" => {
                let choices = value.as_array().filter(|choices| choices.iter().all(is_scalar));
                self.choices =
                    choices.cloned().ok_or_else(|| wrong(path, "expected a list of scalars"))?;
            }
            "const" if is_scalar(value) => self.choices = vec![value.clone()],
            "minimum" => self.minimum = Some(number(value, path)?),
            "maximum" => self.maximum = Some(number(value, path)?),
            "minLength" => self.length.0 = count(value, path)?,
            "maxLength" => self.length.1 = count(value, path)?,
            "minItems" => self.items.0 = count(value, path)?,
            "maxItems" => self.items.1 = count(value, path)?,
            "items" => self.item = Some(Box::new(Self::compile(value, path)?)),
            "properties" => self.properties = properties(value, path)?,
            "required" if value.is_array() => {}
            "additionalProperties" => {
                self.additional = match value.as_bool() {
                    Some(false) => Additional::Refused,
                    Some(true) => Additional::Allowed,
                    None => Additional::Checked(Box::new(Self::compile(value, path)?)),
                }
            }
            "description" => self.description = value.as_str().map(str::to_owned),
            "title" | "default" | "examples" | "format" | "contentEncoding"
            | "contentMediaType" | "$schema" | "$comment" => {}
            _ => return Err(wrong(path, "not a keyword that manifests may use")),
        }
        Ok(())
    }

    /// Nothing to check: the value is skipped.
    fn is_free(&self) -> bool {
        self.kinds == ANY
            && self.choices.is_empty()
            && (self.minimum, self.maximum) == (None, None)
            && self.length == (0, usize::MAX)
            && self.items == (0, usize::MAX)
            && self.item.is_none()
            && self.properties.is_empty()
            && matches!(self.additional, Additional::Allowed)
    }

    /// What is expected here, for people.
    fn expected(&self) -> String {
        let mut text = self.bounds();
        if let Some(description) = &self.description {
            text.push_str(&format!(" ({description})"));
        }
        text
    }

    /// The same without what it is for.
    fn bounds(&self) -> String {
        let mut text = if self.choices.is_empty() {
            let all = KINDS.iter().filter(|(name, bits, _)| {
                // "a number" says "a whole number" too.
                self.kinds & bits == *bits && !(*name == "integer" && self.kinds & NUMBER == NUMBER)
            });
            all.map(|(_, _, text)| *text).collect::<Vec<_>>().join(" or ")
        } else {
            let said = self.choices.iter().filter(|choice| !choice.is_null());
            let all: Vec<_> = said.map(ToString::to_string).collect();
            let null = if all.len() < self.choices.len() { ", or null" } else { "" };
            format!("one of {}{null}", all.join(", "))
        };
        let plain = (0, usize::MAX);
        let mut add = |part: String| text.push_str(&part);
        match (self.minimum, self.maximum) {
            (Some(minimum), Some(maximum)) => add(format!(" from {minimum} to {maximum}")),
            (Some(minimum), None) => add(format!(" of at least {minimum}")),
            (None, Some(maximum)) => add(format!(" of at most {maximum}")),
            (None, None) => {}
        }
        for (bounds, what) in [(self.length, "characters"), (self.items, "items")] {
            match bounds {
                bounds if bounds == plain => {}
                (least, usize::MAX) => add(format!(" of at least {least} {what}")),
                (least, most) => add(format!(" of {least} to {most} {what}")),
            }
        }
        text
    }
}

fn properties(value: &Value, path: &mut Vec<String>) -> Result<Vec<(String, Node)>, SchemaError> {
    let map = value.as_object().filter(|map| map.len() <= PROPERTIES_MAX);
    let map = map.ok_or_else(|| wrong(path, "expected an object of at most 64 properties"))?;
    let mut properties = Vec::with_capacity(map.len());
    for (name, schema) in map {
        path.push(name.clone());
        properties.push((name.clone(), Node::compile(schema, path)?));
        path.pop();
    }
    Ok(properties)
}

fn kinds(value: &Value) -> Option<u8> {
    let one = |value: &Value| {
        let name = value.as_str()?;
        KINDS.iter().find(|(kind, _, _)| *kind == name).map(|(_, bits, _)| *bits)
    };
    match value.as_array() {
        Some(list) if list.is_empty() => None,
        Some(list) => list.iter().try_fold(0, |bits, kind| Some(bits | one(kind)?)),
        None => one(value),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

fn number(value: &Value, path: &[String]) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| wrong(path, "expected a number"))
}

fn count(value: &Value, path: &[String]) -> Result<usize, SchemaError> {
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| wrong(path, "expected a whole number, at least 0"))
}

fn wrong(path: &[String], why: &str) -> SchemaError {
    SchemaError { at: format!("/{}", path.join("/")), why: why.to_owned() }
}

/// Where the check stands, and what it found wrong.
struct Context<'a> {
    path: Vec<Step<'a>>,
    fault: Option<ApiError>,
}

enum Step<'a> {
    Name(Cow<'a, str>),
    Index(usize),
}

impl Context<'_> {
    /// RFC 6901.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Name(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn refuse<E: de::Error>(&mut self, error: impl FnOnce(&str) -> ApiError) -> E {
        self.fault = Some(error(&self.pointer()));
        E::custom("refused")
    }
}

/// Checks one value.
struct Check<'c, 'a> {
    node: &'a Node,
    context: &'c mut Context<'a>,
}

impl<'de> DeserializeSeed<'de> for Check<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.is_free() {
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl Check<'_, '_> {
    fn unexpected<E: de::Error>(self) -> E {
        let expected = self.node.expected();
        self.context.refuse(|at| ApiError::invalid_field(at, &expected))
    }

    fn scalar<E: de::Error>(self, kind: u8, is_choice: impl Fn(&Value) -> bool) -> Result<(), E> {
        let choices = &self.node.choices;
        if self.node.kinds & kind != kind || !(choices.is_empty() || choices.iter().any(is_choice))
        {
            return Err(self.unexpected());
        }
        Ok(())
    }

    fn number<E: de::Error>(
        self,
        kind: u8,
        value: f64,
        is_choice: impl Fn(&Value) -> bool,
    ) -> Result<(), E> {
        let node = self.node;
        if node.minimum.is_some_and(|least| value < least)
            || node.maximum.is_some_and(|most| value > most)
        {
            return Err(self.unexpected());
        }
        self.scalar(kind, is_choice)
    }
}

impl<'de> Visitor<'de> for Check<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node.expected())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar(NULL, Value::is_null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(BOOLEAN, |choice| choice.as_bool() == Some(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.number(INTEGER, value as f64, |choice| choice.as_u64() == Some(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.number(INTEGER, value as f64, |choice| choice.as_i64() == Some(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        // JSON Schema: 1.0 is a whole number.
        let kind = if value.fract() == 0.0 { INTEGER } else { NUMBER };
        self.number(kind, value, |choice| choice.as_f64() == Some(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let (least, most) = self.node.length;
        // Only a bounded text is counted: a long one of any length costs nothing here.
        if (least, most) != (0, usize::MAX) && self.node.kinds & STRING != 0 {
            let count = value.chars().count();
            if !(least..=most).contains(&count) {
                let expected = format!("{}, not {count}", self.node.bounds());
                return Err(self.context.refuse(|at| ApiError::invalid_field(at, &expected)));
            }
        }
        self.scalar(STRING, |choice| choice.as_str() == Some(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.node.kinds & ARRAY == 0 || !self.node.choices.is_empty() {
            return Err(self.unexpected());
        }
        let node = self.node.item.as_deref().unwrap_or(&FREE);
        let (least, most) = self.node.items;
        let mut count = 0;
        loop {
            self.context.path.push(Step::Index(count));
            let item = items.next_element_seed(Check { node, context: self.context })?;
            self.context.path.pop();
            if item.is_none() {
                break;
            }
            count += 1;
            if count > most {
                return Err(self.unexpected());
            }
        }
        if count < least { Err(self.unexpected()) } else { Ok(()) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let node = self.node;
        if node.kinds & OBJECT == 0 || !node.choices.is_empty() {
            return Err(self.unexpected());
        }
        let mut seen = 0_u64;
        while let Some(key) = map.next_key_seed(Key { node })? {
            let (name, node) = match key {
                Found::Declared(index) => {
                    let Some((name, property)) = node.properties.get(index) else { continue };
                    if seen & (1 << index) != 0 {
                        self.context.path.push(Step::Name(Cow::Borrowed(name)));
                        let only = |at: &str| ApiError::invalid_field(at, "the field only once");
                        return Err(self.context.refuse(only));
                    }
                    seen |= 1 << index;
                    (Cow::Borrowed(name.as_str()), property)
                }
                Found::Skipped => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Found::Additional(name) => match &node.additional {
                    Additional::Checked(additional) => (Cow::Owned(name), &**additional),
                    Additional::Allowed | Additional::Refused => {
                        return Err(self.unknown(&name));
                    }
                },
            };
            self.context.path.push(Step::Name(name));
            map.next_value_seed(Check { node, context: self.context })?;
            self.context.path.pop();
        }
        self.complete(seen)
    }
}

impl Check<'_, '_> {
    fn unknown<E: de::Error>(self, name: &str) -> E {
        let known: Vec<_> =
            self.node.properties.iter().map(|(name, _)| format!("`{name}`")).collect();
        self.context
            .refuse(|at| ApiError::unknown_field(&format!("{at}/{name}"), &known.join(", ")))
    }

    fn complete<E: de::Error>(self, seen: u64) -> Result<(), E> {
        let missing = self.node.required & !seen;
        let Some((name, node)) =
            self.node.properties.get(missing.trailing_zeros() as usize).filter(|_| missing != 0)
        else {
            return Ok(());
        };
        let expected = node.expected();
        Err(self.context.refuse(|at| ApiError::missing_field(&format!("{at}/{name}"), &expected)))
    }
}

enum Found {
    Declared(usize),
    Additional(String),
    /// Allowed and unconstrained: its name is not even copied.
    Skipped,
}

struct Key<'a> {
    node: &'a Node,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Found, E> {
        let declared = self.node.properties.iter().position(|(declared, _)| declared == name);
        Ok(match (declared, &self.node.additional) {
            (Some(index), _) => Found::Declared(index),
            (None, Additional::Allowed) => Found::Skipped,
            (None, Additional::Refused | Additional::Checked(_)) => {
                Found::Additional(name.to_owned())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::Code;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, text: &str, expected: Result<(), (Code, &str)>) {
        let schema = Schema::compile(schema).expect("a known schema");
        match (schema.check(text), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, code, "{text}: {}", error.message);
                assert!(error.message.contains(part), "{text}: {}", error.message);
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn the_fault_is_named_by_pointer_and_remedy() {
        let schema = json!({
            "type": "object", "required": ["shape"], "additionalProperties": false,
            "properties": {
                "shape": {"type": "array", "minItems": 1, "maxItems": 2,
                          "items": {"type": "integer", "minimum": 1}},
                "way": {"enum": ["up", "down"]},
                "a/b": {"type": ["string", "null"], "maxLength": 2},
                "kind": {"type": ["string", "null"], "enum": ["wav", "pcm"]},
            },
        });
        let check = |text, expected| check(&schema, text, expected);
        check(r#"{"shape":[1,2],"way":"up","a/b":null}"#, Ok(()));
        check(r#"{"shape":[1.0]}"#, Ok(()));
        check(
            r#"{"shape":[1,0]}"#,
            Err((Code::InvalidField, "`/shape/1`: expected a whole number of at least 1")),
        );
        check(
            r#"{"shape":[]}"#,
            Err((Code::InvalidField, "`/shape`: expected a list of 1 to 2 items")),
        );
        check(r#"{"shape":[1,1,1]}"#, Err((Code::InvalidField, "`/shape`")));
        check(
            r#"{"shape":[1],"way":"secret"}"#,
            Err((Code::InvalidField, r#"one of "up", "down""#)),
        );
        check(r#"{"shape":[1],"a/b":"éé"}"#, Ok(()));
        check(r#"{"shape":[1],"a/b":"ééé"}"#, Err((Code::InvalidField, "`/a~1b`")));
        // How much there is, and never what it says.
        check(
            r#"{"shape":[1],"a/b":"ééé"}"#,
            Err((Code::InvalidField, "expected null or a text of 0 to 2 characters, not 3")),
        );
        check(r#"{"shape":[1],"kind":null}"#, Ok(()));
        check(
            r#"{"shape":[1],"kind":"mp3"}"#,
            Err((Code::InvalidField, r#"one of "wav", "pcm", or null"#)),
        );
        check(r#"{"way":"up"}"#, Err((Code::InvalidField, "`/shape` is missing")));
        check(r#"{"shape":[1],"x":1}"#, Err((Code::UnknownField, "`/x`")));
        check(r#"{"shape":[1],"shape":[1]}"#, Err((Code::InvalidField, "only once")));
        check("[]", Err((Code::InvalidField, "an object")));
        check("{", Err((Code::MalformedJson, "line 1")));
        check(r#"{"shape":[1]} x"#, Err((Code::MalformedJson, "line 1")));
    }

    #[test]
    fn what_is_free_may_be_anything() {
        let schema = json!({"properties": {"n": {"type": "integer", "maximum": 3}}});
        for text in ["1", "null", "[1]", "\"x\"", r#"{"m":{"n":9}}"#, r#"{"n":-3}"#] {
            check(&schema, text, Ok(()));
        }
        check(&schema, r#"{"n":4}"#, Err((Code::InvalidField, "at most 3")));
        let schema = json!({"additionalProperties": {"type": "number"}});
        check(&schema, r#"{"a":1,"b":1.5}"#, Ok(()));
        check(&schema, r#"{"a":1,"b":""}"#, Err((Code::InvalidField, "`/b`")));
    }

    #[test]
    fn an_unknown_keyword_is_refused_when_the_schema_is_read() {
        let error = Schema::compile(&json!({"properties": {"a": {"pattern": "x"}}}))
            .expect_err("pattern is not known");
        assert_eq!(error.at, "/properties/a/pattern");
        assert!(Schema::compile(&json!({"required": ["a"]})).is_err());
        assert!(Schema::compile(&json!({"type": "int"})).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_gives_an_answer_or_a_code(text in "\\PC{0,64}") {
            let schema = Schema::compile(&json!({
                "type": ["object", "array"], "items": {"type": "string"},
                "properties": {"a": {"const": 1}}, "required": ["a"],
            })).expect("a known schema");
            if let Err(error) = schema.check(&text) {
                prop_assert!(matches!(error.code, Code::MalformedJson | Code::InvalidField));
            }
        }
    }
}
