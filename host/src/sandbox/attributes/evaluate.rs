//! What an expression comes to.
//!
//! One that only names an attribute is what `proxy_get_property` gives for it. Any other is evaluated by a library, on
//! those attributes that it names.

use std::sync::Arc;

use cel::objects::Key;
use cel::{Context, Value};

use super::variable::{named, variable};
use crate::sandbox::expression::Expression;
use crate::sandbox::pairs;
use crate::sandbox::state::State;
use crate::sandbox::status::Status;

/// What `expression` comes to for the context that runs, encoded as attributes are.
pub(crate) fn evaluate(expression: &Expression, state: &State) -> Result<Vec<u8>, Status> {
    if let Some(path) = &expression.path {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        return named(state, &path);
    }
    let mut context = Context::default();
    for (name, parts) in &expression.names {
        if let Some(value) = variable(state, name, parts) {
            context.add_variable_from_value(name.as_str(), value);
        }
    }
    encode(&expression.program.execute(&context).ok().ok_or(Status::InternalFailure)?)
}

/// As Envoy encodes what an expression comes to: a list is pairs of an element and nothing.
fn encode(value: &Value) -> Result<Vec<u8>, Status> {
    let block = |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
        pairs::encode(pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
    };
    Ok(match value {
        Value::Int(number) => number.to_le_bytes().to_vec(),
        Value::UInt(number) => number.to_le_bytes().to_vec(),
        Value::Float(number) => number.to_le_bytes().to_vec(),
        Value::Bool(yes) => vec![u8::from(*yes)],
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Bytes(bytes) => bytes.to_vec(),
        Value::List(items) if items.is_empty() => vec![0; 4],
        Value::Map(map) if map.map.is_empty() => vec![0; 4],
        Value::List(items) => {
            block(items.iter().map(|item| Ok((encode(item)?, Vec::new()))).collect::<Result<_, Status>>()?)
        }
        Value::Map(map) => {
            let pairs = map.map.iter().map(|(key, value)| Ok((encode(&of_key(key))?, encode(value)?)));
            block(pairs.collect::<Result<_, Status>>()?)
        }
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) | Value::Null => {
            return Err(Status::SerializationFailure);
        }
    })
}

fn of_key(key: &Key) -> Value {
    match key {
        Key::Int(number) => Value::Int(*number),
        Key::Uint(number) => Value::UInt(*number),
        Key::Bool(yes) => Value::Bool(*yes),
        Key::String(text) => Value::String(Arc::clone(text)),
    }
}
