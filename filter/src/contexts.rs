//! The contexts of a VM: plugins under a configuration each, and the streams that pass them.

use std::rc::Rc;

use policy::map::Map;

use crate::host::{Host, Level};
use crate::place::{self, Awaited, Next};
use crate::refusal::unready;
use crate::settings::Settings;
use crate::streams::Streams;

/// Everything that a VM knows. The host numbers contexts, and never gives one number to two.
#[derive(Debug, Default)]
pub struct Contexts {
    roots: Map<u32, Root>,
    streams: Streams<Stream>,
    /// The roots that were ended and are kept, in the order in which they ended first.
    kept: Vec<u32>,
}

/// A plugin under a configuration.
#[derive(Debug, Default)]
struct Root {
    settings: Option<Rc<Settings>>,
    /// How often it was started and not ended.
    ///
    /// When a plan goes back to what it was while requests of the first time are still under way, Envoy starts the root
    /// of then once more; and when the last of those requests is over, it ends that root, and goes on sending it streams.
    starts: u32,
}

/// So many ended roots that were started more than once are kept: Envoy does not end them again.
const KEPT: usize = 16;

/// A stream: what judges it, and what its answer is looked at for.
#[derive(Debug)]
struct Stream {
    settings: Rc<Settings>,
    awaited: Awaited,
}

impl Contexts {
    /// A new plugin, or a new stream of one.
    pub fn create(&mut self, id: u32, parent: u32) {
        if parent == 0 {
            self.change(id, |root| root.starts += 1);
        } else if let Some(settings) = self.roots.get(&parent).and_then(|root| root.settings.as_ref()) {
            let stream = Stream { settings: Rc::clone(settings), awaited: Awaited::default() };
            self.streams.insert(id, stream);
        }
    }

    /// Takes a plugin's configuration; `false` refuses it, and the host keeps the one before.
    pub fn configure(&mut self, id: u32, configuration: impl AsRef<[u8]>, host: &impl Host) -> bool {
        let before: Vec<Rc<Settings>> =
            self.roots.values().filter_map(|root| root.settings.clone()).collect();
        match Settings::read(configuration, &before, host) {
            Ok(settings) => {
                self.change(id, |root| root.settings = Some(Rc::new(settings)));
                true
            }
            Err(refusal) => {
                host.log(Level::Error, &format!("configuration refused, the one before stays: {refusal}"));
                false
            }
        }
    }

    /// The headers of a request.
    pub fn request(&mut self, id: u32, host: &impl Host) -> Next {
        #[cfg(feature = "trap-on-demand")]
        if host.header(crate::host::Headers::Request, "x-isthmus-trap").is_some() {
            std::process::abort();
        }
        match self.streams.get_mut(id) {
            Some(stream) => place::request(&stream.settings, &mut stream.awaited, host),
            None => unknown(host),
        }
    }

    /// The headers of an answer.
    pub fn answer(&mut self, id: u32, host: &impl Host) {
        if let Some(stream) = self.streams.get(id) {
            place::answer(&stream.settings, &stream.awaited, host);
        }
    }

    /// A new TCP connection.
    pub fn connection(&mut self, id: u32, host: &impl Host) -> Next {
        match self.streams.get(id) {
            Some(stream) => place::connection(&stream.settings, host),
            None => {
                host.close();
                Next::Stop
            }
        }
    }

    /// The end of a plugin or of a stream.
    pub fn delete(&mut self, id: u32) {
        if self.streams.remove(id).is_some() {
            return;
        }
        let Some(root) = self.roots.get_mut(&id) else { return };
        root.starts = root.starts.saturating_sub(1);
        if root.starts == 0 {
            self.roots.remove(&id);
        } else if !self.kept.contains(&id) {
            self.kept.push(id);
        }
        if self.kept.len() > KEPT {
            let oldest = self.kept.remove(0);
            self.roots.remove(&oldest);
        }
    }

    /// Changes a root, which is made when there is none yet.
    fn change(&mut self, id: u32, change: impl FnOnce(&mut Root)) {
        let mut root = self.roots.remove(&id).unwrap_or_default();
        change(&mut root);
        self.roots.insert(id, root);
    }
}

/// A stream of a plugin that has no configuration. No host makes one; if any did, nothing would pass unjudged.
fn unknown(host: &impl Host) -> Next {
    unready(host, "isthmus:not-configured");
    Next::Stop
}

#[cfg(test)]
mod tests;
