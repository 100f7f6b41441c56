//! Modules import one way: of those that stand beside each other, none takes from one that takes from it, be it by way of others.
//!
//! A module and what lies in the folder of its name are one room: a part names what its module has, and the module its parts. So
//! it is at every floor that the question is asked, of each module with all below it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{none, text, tracked};

/// A path as it is written, or the name of a module from the root of its crate.
type Path = Vec<String>;

/// What each module takes from others: their names, and those of what it takes.
type Imports = BTreeMap<Path, BTreeMap<Path, BTreeSet<String>>>;

#[test]
fn no_two_modules_beside_each_other_take_from_one_another() {
    let mut mistakes = Vec::new();
    for source in ["policy/src", "filter/src", "host/src"] {
        let modules = modules_of(source);
        let imports = modules.imports();
        assert!(imports.len() > 10, "{source}: hardly anything imports anything, so nothing was read");
        mistakes.extend(circles(&imports).into_iter().map(|circle| format!("{source}: {circle}")));
    }
    none(&mistakes);
}

#[test]
fn a_circle_is_told_with_what_ties_it() {
    let crate_of = |files: &[(&str, &str)]| {
        let module = |(path, code): &(&str, &str)| (name_of(path), Said::of(code));
        Modules(files.iter().map(module).collect())
    };
    let told = |files: &[(&str, &str)]| circles(&crate_of(files).imports());
    let root = ("lib.rs", "mod above; mod below; mod between; pub use below::Stone;");
    let below = (
        "below.rs",
        "pub struct Stone; // crate::above::Roof\n#[cfg(test)] mod tests { use crate::above::Roof; }",
    );
    let between =
        ("between.rs", "mod part; use crate::Stone; fn wall() { part::brick(\"crate::above::Roof\") }");
    let part = ("between/part.rs", "use super::wall; pub fn brick(_: &str) {}");
    let above = ("above.rs", "use crate::between::{self, wall}; pub struct Roof(crate::below::Stone);");
    assert_eq!(told(&[root, below, between, part, above]), [""; 0]);
    // What a name stands for counts, and not where it is handed on; and a part counts as its module.
    let part = ("between/part.rs", "use crate::above as over; pub fn brick(_: over::Roof) {}");
    assert_eq!(
        told(&[root, below, between, part, above]),
        ["above -> between (wall); between/part -> above (Roof)"]
    );
}

/// The modules of a crate, each with what its file says.
struct Modules(BTreeMap<Path, Said>);

/// What a file says.
#[derive(Default)]
struct Said {
    /// The modules that it declares.
    parts: BTreeSet<String>,
    /// What it has by `use`, under the name that it has here.
    names: BTreeMap<String, Path>,
    /// What it takes: all paths that it writes out, but for those that it hands on.
    paths: Vec<Path>,
}

fn modules_of(source: &str) -> Modules {
    let own = |path: &String| {
        let inner = path.trim_start_matches(source);
        !inner.starts_with("/bin/") && !inner.contains("/tests/") && !inner.ends_with("/tests.rs")
    };
    let files = tracked(&[&format!("{source}/**/*.rs"), &format!("{source}/*.rs")]);
    let module = |path: &String| (name_of(path.trim_start_matches(source)), Said::of(&text(path)));
    Modules(files.iter().filter(|path| own(path)).map(module).collect())
}

/// The module of a file, by its path below the sources of its crate.
fn name_of(path: &str) -> Path {
    let path = path.trim_start_matches('/').trim_end_matches(".rs");
    path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

impl Said {
    fn of(code: &str) -> Self {
        let mut said = Self::default();
        said.read(code.parse().expect("a file of the repository is Rust"));
        said
    }

    fn read(&mut self, tokens: TokenStream) {
        let mut rest: &[TokenTree] = &tokens.into_iter().collect::<Vec<_>>();
        let mut hands_on = false;
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                TokenTree::Punct(sign) if sign.as_char() == '#' => {
                    if let [TokenTree::Group(attribute), after @ ..] = rest {
                        let is_for_tests = attribute.stream().to_string().replace(' ', "") == "cfg(test)";
                        rest = if is_for_tests { behind_item(after) } else { after };
                    }
                }
                TokenTree::Ident(word) if word == "pub" => {
                    hands_on = true;
                    if let [TokenTree::Group(scope), after @ ..] = rest
                        && scope.delimiter() == Delimiter::Parenthesis
                    {
                        rest = after;
                    }
                    continue;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [TokenTree::Ident(part), TokenTree::Punct(_), ..] = rest {
                        self.parts.insert(part.to_string());
                    }
                }
                TokenTree::Ident(word) if word == "use" && !is_sign(rest.first(), '<') => {
                    let end = rest.iter().position(|token| is_sign(Some(token), ';')).unwrap_or(rest.len());
                    let (tree, after) = rest.split_at(end);
                    self.take(tree, &[], hands_on);
                    rest = after;
                }
                TokenTree::Ident(word) => {
                    let mut path = vec![word.to_string()];
                    while let [
                        TokenTree::Punct(one),
                        TokenTree::Punct(two),
                        TokenTree::Ident(next),
                        after @ ..,
                    ] = rest
                        && (one.as_char(), two.as_char()) == (':', ':')
                    {
                        path.push(next.to_string());
                        rest = after;
                    }
                    if path.len() > 1 {
                        self.paths.push(path);
                    }
                }
                TokenTree::Group(group) => self.read(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            hands_on = false;
        }
    }

    /// Takes a tree of `use`, whose paths begin with `before`.
    fn take(&mut self, tree: &[TokenTree], before: &[String], hands_on: bool) {
        for branch in tree.split(|token| is_sign(Some(token), ',')) {
            let (mut path, mut name, mut renamed) = (before.to_vec(), None, false);
            let mut inner = None;
            for token in branch {
                match token {
                    TokenTree::Ident(word) if word == "as" => renamed = true,
                    TokenTree::Ident(word) if renamed => name = Some(word.to_string()),
                    TokenTree::Ident(word) if word == "self" && !before.is_empty() => {}
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Punct(sign) if sign.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(group) => inner = Some(group.stream()),
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if let Some(inner) = inner {
                self.take(&inner.into_iter().collect::<Vec<_>>(), &path, hands_on);
            } else if let Some(last) = path.last() {
                self.names.insert(name.unwrap_or_else(|| last.clone()), path.clone());
                if !hands_on {
                    self.paths.push(path);
                }
            }
        }
    }
}

fn is_sign(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(found)) if found.as_char() == sign)
}

/// What comes behind the first item: it ends in a semicolon, or in a block.
fn behind_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(sign) => sign.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    let end = tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1);
    tokens.get(end..).unwrap_or_default()
}

impl Modules {
    /// What each module takes from others. One that is only named is nothing taken: what is used of it counts.
    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, said) in &self.0 {
            for path in &said.paths {
                if let Some((from, Some(what))) = self.find(module, path, 0)
                    && from != *module
                {
                    imports.entry(module.clone()).or_default().entry(from).or_default().insert(what);
                }
            }
        }
        imports
    }

    /// The module that has what a path leads to, as it is written in `module`, and its name there.
    fn find(&self, module: &Path, path: &[String], turns: u8) -> Option<(Path, Option<String>)> {
        let (first, rest) = path.split_first().filter(|_| turns < 16)?;
        let said = self.0.get(module)?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (Path::new(), rest),
            "self" => (module.clone(), rest),
            "super" => {
                let ups = path.iter().take_while(|step| *step == "super").count();
                (module.get(..module.len().checked_sub(ups)?)?.to_vec(), path.get(ups..)?)
            }
            part if said.parts.contains(part) => (module.clone(), path),
            name => return self.find(module, &joined(said.names.get(name)?, rest), turns + 1),
        };
        while let Some((step, after)) = rest.split_first() {
            let inner = joined(&at, std::slice::from_ref(step));
            if self.0.contains_key(&inner) {
                (at, rest) = (inner, after);
            } else if let Some(known) = self.0.get(&at).and_then(|said| said.names.get(step)) {
                return self.find(&at, &joined(known, after), turns + 1);
            } else {
                return Some((at, Some(step.clone())));
            }
        }
        Some((at, None))
    }
}

fn joined(path: &[String], more: &[String]) -> Path {
    path.iter().chain(more).cloned().collect()
}

/// On every floor, what ties modules beside each other into circles.
fn circles(imports: &Imports) -> Vec<String> {
    let mut floors: BTreeMap<&[String], Vec<(&str, &str, String)>> = BTreeMap::new();
    for (module, taken) in imports {
        for (from, what) in taken {
            let common = module.iter().zip(from).take_while(|(one, other)| one == other).count();
            // A module and its own part are one room.
            if let (Some(one), Some(other)) = (module.get(common), from.get(common)) {
                let what: Vec<&str> = what.iter().map(String::as_str).collect();
                let tie = format!("{} -> {} ({})", module.join("/"), from.join("/"), what.join(", "));
                floors.entry(module.split_at(common).0).or_default().push((one, other, tie));
            }
        }
    }
    floors.into_values().filter_map(circle).collect()
}

/// Takes away what nobody on the floor takes from, and what takes from nobody: what is left goes in circles.
fn circle(mut ties: Vec<(&str, &str, String)>) -> Option<String> {
    loop {
        let takers: BTreeSet<&str> = ties.iter().map(|(taker, ..)| *taker).collect();
        let givers: BTreeSet<&str> = ties.iter().map(|(_, giver, _)| *giver).collect();
        let before = ties.len();
        ties.retain(|(taker, giver, _)| givers.contains(taker) && takers.contains(giver));
        if ties.len() == before {
            break;
        }
    }
    let told: Vec<String> = ties.into_iter().map(|(.., tie)| tie).collect();
    (!told.is_empty()).then(|| told.join("; "))
}
