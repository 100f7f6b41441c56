//! The documents show no command that the program does not have. That docs/cli.md is what the program says of itself
//! is held by the `cli` tier.

use std::collections::BTreeMap;

use super::{none, text, tracked};

/// What the program says of each verb, by the words that call it.
fn reference() -> BTreeMap<Vec<String>, String> {
    let reference = text("docs/cli.md");
    let mut verbs = BTreeMap::new();
    for section in reference.split("\n## ").skip(1) {
        let (name, help) = section.split_once('\n').unwrap_or((section, ""));
        verbs.insert(name.split_whitespace().map(str::to_owned).collect(), help.to_owned());
    }
    verbs
}

/// The commands of ours that a Markdown text shows: in backticks, and in blocks of code, on as many lines as they take.
fn shown(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_block = false;
    let joined = markdown.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let line = line.trim_start();
            commands.push(line.strip_prefix("$ ").unwrap_or(line).to_owned());
        } else {
            commands.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    commands.retain(|command| command.starts_with("isthmus "));
    commands
}

/// What is wrong with a command, if anything is: a verb or a flag of it that is not there.
fn wrong(command: &str, verbs: &BTreeMap<Vec<String>, String>) -> Option<String> {
    let words: Vec<String> = command
        .split_whitespace()
        .take_while(|word| !["|", "#", "&&", ";", ">", "<"].contains(word))
        .map(|word| word.trim_end_matches([',', ';', ':']).to_owned())
        .collect();
    let called = (1..=words.len()).rev().find_map(|most| verbs.get_key_value(words.get(..most)?));
    let (verb, help) = called?;
    let next = words.get(verb.len()).map(String::as_str).unwrap_or_default();
    if help.contains("Commands:") && next.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Some(format!("no verb {next:?} of `{}`", verb.join(" ")));
    }
    let flags = words.iter().filter_map(|word| word.split('=').next()).filter(|word| word.starts_with("--"));
    let known = |flag: &str| help.split([' ', '\n', ',', '`', '[', '=']).any(|word| word == flag);
    flags.into_iter().find(|flag| !known(flag)).map(|flag| format!("no {flag} of `{}`", verb.join(" ")))
}

#[test]
fn every_command_that_a_document_shows_is_one_of_the_program() {
    let verbs = reference();
    let mut mistakes = Vec::new();
    let mut seen = 0;
    for document in tracked(&["*.md"]) {
        for command in shown(&text(&document)) {
            seen += 1;
            if let Some(why) = wrong(&command, &verbs) {
                mistakes.push(format!("{document}: {command:?}: {why}"));
            }
        }
    }
    assert!(seen > 100, "{seen} commands in all documents: the reader of documents is broken");
    none(&mistakes);
}

#[test]
fn a_verb_or_a_flag_that_is_not_there_is_seen() {
    let verbs = reference();
    for good in ["isthmus check", "isthmus mesh certs --certs x | less", "isthmus test -o json cases.yaml"] {
        assert_eq!(wrong(good, &verbs), None, "{good}");
    }
    for bad in
        ["isthmus certs", "isthmus mesh cert", "isthmus check --certificates x", "isthmus rollout undone"]
    {
        assert!(wrong(bad, &verbs).is_some(), "{bad}");
    }
    let two_lines =
        shown("```console\n$ isthmus check \\\n    --certs x\n```\nand `isthmus diff`, or `make`");
    assert_eq!(two_lines, ["isthmus check      --certs x", "isthmus diff"]);
}
