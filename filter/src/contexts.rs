//! The contexts of a VM: plugins under a configuration each, and the streams that pass them.

use std::rc::Rc;

use crate::hash::NumberMap;
use crate::host::{Host, Level, Reply};
use crate::place::{self, Awaited, Next};
use crate::settings::Settings;

/// Everything that a VM knows. The host numbers contexts, and never gives one number twice.
#[derive(Debug, Default)]
pub struct Contexts {
    roots: NumberMap<u32, Option<Rc<Settings>>>,
    streams: NumberMap<u32, Stream>,
}

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
            self.roots.insert(id, None);
        } else if let Some(Some(settings)) = self.roots.get(&parent) {
            let stream = Stream { settings: Rc::clone(settings), awaited: Awaited::default() };
            self.streams.insert(id, stream);
        }
    }

    /// Takes a plugin's configuration; `false` refuses it, and the host keeps the one before.
    pub fn configure(&mut self, id: u32, configuration: &[u8], host: &impl Host) -> bool {
        let before: Vec<Rc<Settings>> = self.roots.values().flatten().cloned().collect();
        match Settings::read(configuration, &before, host) {
            Ok(settings) => {
                self.roots.insert(id, Some(Rc::new(settings)));
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
        match self.streams.get_mut(&id) {
            Some(stream) => place::request(&stream.settings, &mut stream.awaited, host),
            None => unknown(host),
        }
    }

    /// The headers of an answer.
    pub fn answer(&mut self, id: u32, host: &impl Host) {
        if let Some(stream) = self.streams.get(&id) {
            place::answer(&stream.settings, &stream.awaited, host);
        }
    }

    /// A new TCP connection.
    pub fn connection(&mut self, id: u32, host: &impl Host) -> Next {
        match self.streams.get(&id) {
            Some(stream) => place::connection(&stream.settings, host),
            None => {
                host.close();
                Next::Stop
            }
        }
    }

    /// The end of a plugin or of a stream.
    pub fn delete(&mut self, id: u32) {
        if self.streams.remove(&id).is_none() {
            self.roots.remove(&id);
        }
    }
}

/// A stream of a plugin that has no configuration. No host makes one; if any did, nothing would pass unjudged.
fn unknown(host: &impl Host) -> Next {
    host.reply(&Reply {
        status: 503,
        grpc: None,
        details: "isthmus:not-configured".to_owned(),
        headers: Vec::new(),
        body: String::new(),
    });
    Next::Stop
}
