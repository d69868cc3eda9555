//! The fields of a struct as JSON values, without a map of them: tasks of a large pipeline are described one by one, and
//! hashing the names of all their parameters was a fifth of planning them.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Error, Value, to_value};

/// A field's name and value.
pub type Field = (Cow<'static, str>, Value);

/// The fields of a struct, or the entries of a map whose keys are texts, in their order.
///
/// # Errors
/// When it is something else, or a field is no JSON.
pub fn fields<T: Serialize>(value: &T) -> Result<Vec<Field>, Error> {
    value.serialize(Fields)
}

struct Fields;

/// Collects fields.
#[derive(Default)]
struct Collected {
    fields: Vec<Field>,
    key: Option<String>,
}

impl SerializeStruct for Collected {
    type Ok = Vec<Field>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.fields.push((Cow::Borrowed(name), to_value(value)?));
        Ok(())
    }

    fn end(self) -> Result<Vec<Field>, Error> {
        Ok(self.fields)
    }
}

impl SerializeMap for Collected {
    type Ok = Vec<Field>;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        match to_value(key)? {
            Value::String(key) => self.key = Some(key),
            other => return Err(Error::custom(format_args!("the key {other} is no text"))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().unwrap_or_default();
        self.fields.push((Cow::Owned(key), to_value(value)?));
        Ok(())
    }

    fn end(self) -> Result<Vec<Field>, Error> {
        Ok(self.fields)
    }
}

fn other(what: impl fmt::Display) -> Error {
    Error::custom(format_args!("{what} has no fields"))
}

macro_rules! no_fields {
    ($($method:ident: $kind:ty),* $(,)?) => {
        $(fn $method(self, _: $kind) -> Result<Vec<Field>, Error> {
            Err(other(stringify!($kind)))
        })*
    };
}

impl Serializer for Fields {
    type Ok = Vec<Field>;
    type Error = Error;
    type SerializeSeq = Impossible<Vec<Field>, Error>;
    type SerializeTuple = Impossible<Vec<Field>, Error>;
    type SerializeTupleStruct = Impossible<Vec<Field>, Error>;
    type SerializeTupleVariant = Impossible<Vec<Field>, Error>;
    type SerializeMap = Collected;
    type SerializeStruct = Collected;
    type SerializeStructVariant = Impossible<Vec<Field>, Error>;

    no_fields! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn serialize_none(self) -> Result<Vec<Field>, Error> {
        Err(other("nothing"))
    }

    fn serialize_unit(self) -> Result<Vec<Field>, Error> {
        Err(other("nothing"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<Field>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Vec<Field>, Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, name: &'static str, _: u32, _: &'static str) -> Result<Vec<Field>, Error> {
        Err(other(name))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<Field>, Error> {
        Err(other(name))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(other("a list"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(other("a tuple"))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(other(name))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(other(name))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Collected, Error> {
        Ok(Collected {
            fields: Vec::with_capacity(length.unwrap_or_default()),
            key: None,
        })
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Collected, Error> {
        self.serialize_map(Some(length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(other(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Inner {
        tau: f32,
        names: Vec<&'static str>,
    }

    #[derive(Serialize)]
    struct Flat {
        first: u8,
        #[serde(flatten)]
        inner: Inner,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
    }

    #[derive(Serialize)]
    struct New(Inner);

    /// As the map that `serde_json` makes of it.
    fn same<T: Serialize>(value: &T) {
        let map: serde_json::Map<String, Value> = fields(value)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value))
            .collect();
        assert_eq!(Value::Object(map), to_value(value).unwrap());
    }

    #[test]
    fn fields_are_those_of_the_json() {
        let inner = || Inner {
            tau: 0.3,
            names: vec!["a", "b"],
        };
        same(&inner());
        same(&New(inner()));
        same(&Flat {
            first: 1,
            inner: inner(),
            absent: None,
        });
        same(&BTreeMap::from([("x", 1), ("y", 2)]));
        assert!(fields(&json!([1])).is_err());
        assert!(fields(&1.5).is_err());
    }
}
