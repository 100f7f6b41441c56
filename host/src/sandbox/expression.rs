//! Expressions (CEL) over attributes: the foreign functions `expr_create`, `expr_evaluate` and `expr_delete`.
//!
//! Here they are made, and kept by their numbers; what one comes to is for the attributes to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::status::Status;

/// What the parser of an expression may need of the stack: it calls itself for every level.
const STACK: usize = 64 << 20;

/// How long an expression may be, and how deep. Envoy takes somewhat deeper ones.
const LONGEST: usize = 8 << 10;
const DEEPEST: usize = 100;

/// The functions that are found by a name, and not by a sign. Envoy refuses others when an expression is made.
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// The expressions of a root context, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    next: u32,
    made: BTreeMap<u32, Arc<Expression>>,
}

/// An expression that was made.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) program: Program,
    /// The attribute that it names, if it does nothing else.
    pub(crate) path: Option<Vec<String>>,
    /// What it names: the first words, each with those that come after it.
    pub(crate) names: Names,
}

pub(crate) type Names = BTreeMap<String, BTreeSet<String>>;

impl Expressions {
    /// Makes an expression; the answer is its number. What parses, but cannot be compiled, uses a number up.
    pub(crate) fn create(&mut self, text: &[u8]) -> Result<u32, Status> {
        let text = str::from_utf8(text).ok().ok_or(Status::BadArgument)?;
        let made = made(text)?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.made.insert(number, Arc::new(made.ok_or(Status::BadArgument)?));
        Ok(number)
    }

    /// The expression of a number, as the guest hands it over.
    pub(crate) fn of(&self, number: &[u8]) -> Result<Arc<Expression>, Status> {
        self.made.get(&number_of(number)?).cloned().ok_or(Status::NotFound)
    }

    /// Forgets an expression, or what is none.
    pub(crate) fn delete(&mut self, number: &[u8]) -> Result<(), Status> {
        let number = number_of(number)?;
        self.made.remove(&number);
        Ok(())
    }
}

fn number_of(bytes: &[u8]) -> Result<u32, Status> {
    <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes).ok().ok_or(Status::BadArgument)
}

/// Parses an expression, where there is room enough for one that is deep; nothing comes of one that does not compile.
fn made(text: &str) -> Result<Option<Expression>, Status> {
    if text.len() > LONGEST {
        return Err(Status::BadArgument);
    }
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parsed(text));
        // A thread that did not start, or that panicked, has made nothing of it.
        parser.ok().and_then(|parser| parser.join().ok()).ok_or(Status::BadArgument)?
    })
}

fn parsed(text: &str) -> Result<Option<Expression>, Status> {
    let program = Program::compile(text).ok().ok_or(Status::BadArgument)?;
    let root = program.expression();
    if depth(root) > DEEPEST {
        return Err(Status::BadArgument);
    }
    let by_name = |name: &str| name.starts_with(|sign: char| sign.is_ascii_alphabetic());
    let known = |name: &&str| !by_name(name) || FUNCTIONS.contains(name);
    if !program.references().functions().iter().all(known) {
        return Ok(None);
    }
    let path = path(root);
    let mut names = Names::new();
    name(root, &mut names);
    Ok(Some(Expression { path, names, program }))
}

fn depth(expression: &IdedExpr) -> usize {
    1 + parts(expression).into_iter().map(depth).max().unwrap_or_default()
}

fn parts_of(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Comprehension(over) => {
            vec![&over.iter_range, &over.accu_init, &over.loop_cond, &over.loop_step, &over.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|of| parts_of(&of.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(made) => made.entries.iter().flat_map(|of| parts_of(&of.expr)).collect(),
    }
}

/// What is selected of what: `a.b`, and `a["b"]`.
fn selected(expression: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    if let Expr::Select(select) = &expression.expr {
        return Some((&select.operand, &select.field));
    }
    let Expr::Call(call) = &expression.expr else { return None };
    match call.args.as_slice() {
        [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }]
            if call.func_name == operators::INDEX =>
        {
            Some((of, key.inner()))
        }
        _ => None,
    }
}

/// The attribute that an expression names, if that is all.
fn path(expression: &IdedExpr) -> Option<Vec<String>> {
    if let Expr::Ident(name) = &expression.expr {
        return Some(vec![name.clone()]);
    }
    if matches!(&expression.expr, Expr::Select(select) if select.test) {
        return None;
    }
    let (of, key) = selected(expression)?;
    let mut path = path(of)?;
    path.push(key.to_owned());
    Some(path)
}

fn name(expression: &IdedExpr, names: &mut Names) {
    if let Some((IdedExpr { expr: Expr::Ident(of), .. }, key)) = selected(expression) {
        names.entry(of.clone()).or_default().insert(key.to_owned());
    }
    if let Expr::Ident(of) = &expression.expr {
        names.entry(of.clone()).or_default();
    }
    for part in parts(expression) {
        name(part, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_too_deep_is_refused_and_nothing_overflows() {
        let mut expressions = Expressions::default();
        let refused = |text: String| expressions.create(text.as_bytes()) == Err(Status::BadArgument);
        let deep =
            ["(".repeat(4000), "!".repeat(8000), "[".repeat(4000), "1+".repeat(4000), "-".repeat(8000)];
        let closed = ["(".repeat(3000) + "1" + &")".repeat(3000), "1".to_owned() + &"+1".repeat(3000)];
        let long = format!("'{}'", "x".repeat(LONGEST));
        assert!(deep.into_iter().chain(closed).chain([long]).all(refused));
        assert_eq!(expressions.create(b"[[[[1]]]] == [[[[1]]]]"), Ok(0));
    }
}
