//! JSON documents that are kept as text: read to their end and held to bounds, without building anything of them.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How large a document may be.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Levels of arrays and objects.
    pub depth: usize,
    /// Values, the inner ones too.
    pub nodes: usize,
}

/// Reads a JSON document without keeping it.
pub(super) fn check(text: &str, bounds: Bounds) -> Result<(), serde_json::Error> {
    let mut nodes = 0;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Node { depth: 0, nodes: &mut nodes, bounds }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// One value of a JSON document, which counts itself and what lies within.
struct Node<'count> {
    depth: usize,
    nodes: &'count mut usize,
    bounds: Bounds,
}

impl Node<'_> {
    fn child(&mut self) -> Node<'_> {
        Node { depth: self.depth + 1, nodes: self.nodes, bounds: self.bounds }
    }

    fn enter<E: Error>(&self) -> Result<(), E> {
        if self.depth < self.bounds.depth {
            return Ok(());
        }
        Err(E::custom(format_args!("it is nested more than {} levels deep", self.bounds.depth)))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        *self.nodes += 1;
        if *self.nodes > self.bounds.nodes {
            return Err(D::Error::custom(format_args!("it has more than {} values", self.bounds.nodes)));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        while items.next_element_seed(self.child())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            // Parsers differ in which of the two they take.
            if !keys.insert(key) {
                return Err(A::Error::custom("an object in it has one key twice"));
            }
            entries.next_value_seed(self.child())?;
        }
        Ok(())
    }
}
