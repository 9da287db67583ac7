//! A JSON object's fields as they were written, to change some of them and leave the others alone.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's fields in order, doubles included, values as written.
pub(in crate::executors) struct Fields<'a>(Vec<(String, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, Cow<'de, str>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((name, Cow::Borrowed(raw.get())));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect).map(Fields)
    }
}

impl<'a> Fields<'a> {
    pub(in crate::executors) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, raw)| &**raw)
    }

    /// Every field of that name: which of doubles a backend reads is its own choice.
    pub(in crate::executors) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, raw)| &**raw)
    }

    /// Sets every field of that name, or adds one.
    pub(in crate::executors) fn set(&mut self, name: &str, raw: &str) {
        let mut found = false;
        for (_, old) in self.0.iter_mut().filter(|(other, _)| other == name) {
            *old = Cow::Owned(raw.to_owned());
            found = true;
        }
        if !found {
            self.0.push((name.to_owned(), Cow::Owned(raw.to_owned())));
        }
    }

    pub(in crate::executors) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    pub(in crate::executors) fn text(&self) -> Result<String, serde_json::Error> {
        let bytes: usize = self.0.iter().map(|(name, raw)| name.len() + raw.len() + 8).sum();
        let mut text = String::with_capacity(bytes + 2);
        text.push('{');
        for (index, (name, raw)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(name)?);
            text.push(':');
            text.push_str(raw);
        }
        text.push('}');
        Ok(text)
    }
}
