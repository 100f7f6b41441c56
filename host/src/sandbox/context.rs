//! The contexts of a guest: a configured plugin, and a stream that it filters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::callout::Callouts;
use super::connection::Plugin;
use super::expression::Expressions;
use super::filter_state::Prototype;
use super::shown::Shown;
use super::stream::Stream;

/// A context of the guest.
#[derive(Debug)]
pub(crate) enum Context {
    Root(Box<Root>),
    Stream(Box<Stream>),
}

/// A root context: one configured plugin.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) life: Life,
    pub(crate) tick_period: Duration,
    pub(crate) next_tick: Option<Duration>,
    pub(crate) callouts: Callouts,
    /// How it declared values of the filter state.
    pub(crate) declared: HashMap<Vec<u8>, Prototype>,
    pub(crate) expressions: Expressions,
    pub(crate) shown: Shown,
}

/// Where a root context is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Takes new streams. Ends up `Draining` when another configuration replaces it.
    Serving,
    /// Serves the streams it has. Ends up `Ending` or deleted after the last.
    Draining,
    /// Said no to `on_done`. Deleted when it calls `proxy_done`.
    Ending,
}
