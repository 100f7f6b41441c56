//! From plugins of one kind to the same as the other, with no moment in which a proxy has none.
//!
//! ```text
//! the same plans as the kind that is wanted ─> a while ─> what was there goes ─> the plans that are wanted
//! ```
//!
//! For that while a proxy has two filters with one plan, which agree about every request. Were the new plan in one of them,
//! they would not; were the old one taken first, there would be a moment without any. And whoever reads both kinds hears of
//! each by itself: without the while they might hear last of what came first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Step;
use crate::plugin;
use crate::rollout::packed::Packed;
use crate::rollout::rendered::{NAMESPACE, Part, extension_of, other_file};

/// How long both kinds stand beside each other at least. istiod hears of each change within milliseconds, and proxies keep the
/// filter that they have until they have the next: this only has to be longer than one watch may be behind another.
pub(in crate::rollout) const SETTLING: Duration = Duration::from_secs(5);

/// Whether a file has a plugin of a kind in whose place the other one is wanted.
pub(in crate::rollout) fn is_replaced(file: &str, wanted: &[Part]) -> bool {
    let Some(old) = extension_of(file) else { return false };
    wanted.iter().all(|part| part.file != file)
        && wanted.iter().any(|part| extension_of(&part.file) == Some(old.other()))
}

/// The objects that come in the place of those that are replaced, by file, and the steps to it: first those of single
/// namespaces come, and last they go.
pub(super) fn exchange(
    there: &BTreeMap<String, Value>,
    wanted: &[Part],
) -> (BTreeMap<String, Value>, Vec<Step>) {
    let mut replaced: Vec<&String> = there.keys().filter(|file| is_replaced(file, wanted)).collect();
    replaced.sort_by_key(|file| file.contains(NAMESPACE));
    let twin = |file: &&String| {
        let other = other_file(file).filter(|other| !there.contains_key(other))?;
        Some((other, plugin::other(there.get(*file)?)?))
    };
    let twins: Vec<(String, Value)> = replaced.iter().copied().rev().filter_map(|file| twin(&file)).collect();
    let coming = twins.iter().map(|(file, object)| Step::Write(file.clone(), Packed::of(object)));
    let going = replaced.into_iter().map(|file| Step::Remove(file.clone()));
    let steps = coming.chain(going).collect();
    (twins.into_iter().collect(), steps)
}
