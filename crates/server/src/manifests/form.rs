//! What a manifest says of answers, ready for them: where their content stands, and what of them is
//! an answer.

use mtor_types::manifest::{Bound, ItemsOf, Manifest, ResultForm};

use crate::streams::content::{Found, PLACES_MAX, Places, STEPS_MAX, is_hollow};
use crate::streams::{ChunkError, Content, Yield};

/// See [`ResultForm`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    result: Places,
    piece: Places,
    /// The manifest names places.
    is_told: bool,
    may_be_empty: bool,
    items: Option<ItemsOf>,
    yields: Yield,
}

impl Form {
    /// The error names the field.
    pub fn compile(manifest: &Manifest) -> Result<Self, (&'static str, String)> {
        let Some(form) = &manifest.result else { return Ok(Self::default()) };
        let ResultForm {
            content,
            chunk_content,
            may_be_empty,
            units_per_byte,
            bytes_per_unit,
            items,
            ..
        } = form;
        let expected = |field: &'static str| {
            move |pointer: &str| {
                let why = format!(
                    "`{pointer}`: expected at most {PLACES_MAX} JSON pointers such as \
                     \"/choices/*/text\", of at most {STEPS_MAX} steps"
                );
                (field, why)
            }
        };
        let at = items.as_ref().map(|items| items.at.as_str());
        let result = Places::new(content, at).map_err(expected("result.content"))?;
        let each = items.as_ref().filter(|items| items.of == ItemsOf::Answers);
        let at = each.map(|items| items.at.as_str()).filter(|_| !chunk_content.is_empty());
        let piece = Places::new(chunk_content, at).map_err(expected("result.chunk_content"))?;
        for (field, number) in
            [("result.units_per_byte", units_per_byte), ("result.bytes_per_unit", bytes_per_unit)]
        {
            if *number == Some(0) {
                return Err((field, "expected at least 1".to_owned()));
            }
        }
        let yields = Yield { units_per_byte: *units_per_byte, bytes_per_unit: *bytes_per_unit };
        let items = items.as_ref().map(|items| items.of);
        let is_told = !content.is_empty();
        Ok(Self { result, piece, is_told, may_be_empty: *may_be_empty, items, yields })
    }

    /// Whether the edge has to know how many inputs there are.
    pub fn counts_inputs(&self) -> bool {
        self.items == Some(ItemsOf::Inputs)
    }

    pub fn yields(&self, bound: Bound) -> Yield {
        match bound {
            // Each unit of output is a byte at least.
            Bound::BytesAndOutput => Yield { units_per_byte: None, ..self.yields },
            Bound::One | Bound::Bytes | Bound::Points | Bound::Sound | Bound::Speech => self.yields,
        }
    }

    /// What a piece holds, of `answers` that were asked for. One of more holds none of them.
    pub fn piece(&self, text: &str, answers: u64) -> Content {
        let found = Some(self.piece.count(text)).filter(|found| found.items <= answers.max(1));
        let found = found.unwrap_or_default();
        let counts = if self.is_told { found.filled > 0 } else { self.is_answer(found, text) };
        content(found, counts, text)
    }

    /// What a result holds, of `answers` that were asked for. `None`: it is none.
    pub fn result(&self, text: &str, answers: u64) -> Result<Option<Content>, ChunkError> {
        let found = self.result.count(text);
        let counts = self.is_answer(found, text);
        let asked = answers.max(1);
        match self.items {
            Some(ItemsOf::Answers) if found.items > asked => {
                return Err(ChunkError::Items { asked, came: found.items });
            }
            Some(ItemsOf::Inputs) if counts && (found.items, found.filled) != (asked, asked) => {
                let came = found.items.min(found.filled);
                let came = if came == asked { found.items } else { came };
                return Err(ChunkError::Items { asked, came });
            }
            Some(ItemsOf::Answers | ItemsOf::Inputs) | None => {}
        }
        Ok((counts || !is_hollow(text)).then(|| content(found, counts, text)))
    }

    fn is_answer(&self, found: Found, text: &str) -> bool {
        match (self.is_told, self.may_be_empty) {
            (true, false) => found.filled > 0,
            (true, true) => found.there > 0,
            (false, false) => text != "null",
            (false, true) => true,
        }
    }
}

fn content(found: Found, counts: bool, text: &str) -> Content {
    let Found { bytes, begins_white, ends_white, .. } = found;
    Content { bytes, begins_white, ends_white, counts, is_hollow: is_hollow(text) }
}
