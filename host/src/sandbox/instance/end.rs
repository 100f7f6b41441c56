//! The end of a stream: what the guest is told, and what is left.

use super::Instance;
use crate::sandbox::error::Trapped;
use crate::sandbox::filter_state::FilterState;
use crate::sandbox::outcome::Ended;
use crate::sandbox::stream::Phase;

impl Instance {
    /// Ends the stream `id`, once.
    pub(crate) fn end(&mut self, id: u32) -> Result<Ended, Trapped> {
        let Some(stream) = self.state().stream_of(id) else {
            return self.usable().map(|()| Ended { filter_state: FilterState::default() });
        };
        let root = stream.root;
        let filter_state = if stream.http().is_some() { self.end_http(id)? } else { self.end_l4(id)? };
        self.end_drained_root(root)?;
        Ok(Ended { filter_state })
    }

    /// What filters left for each other on the stream `id`.
    pub(crate) fn filter_state(&self, id: u32) -> FilterState {
        self.state().stream_of(id).map(|stream| stream.filter_state.all()).unwrap_or_default()
    }

    /// The access log comes before `on_done`, whose answer Envoy ignores.
    fn end_http(&mut self, id: u32) -> Result<FilterState, Trapped> {
        self.enter(id, Phase::Log);
        let logged = self.callback(id, |exports| &exports.on_log, id).and_then(|_| {
            self.enter(id, Phase::Gone);
            self.callback(id, |exports| &exports.on_done, id)
        });
        let left = self.filter_state(id);
        let deleted = self.delete(id);
        logged.map(drop).and(deleted).map(|()| left)
    }

    /// The end of a connection may have been told before.
    fn end_l4(&mut self, id: u32) -> Result<FilterState, Trapped> {
        let told = self.close_connection(id, false);
        let left = self.filter_state(id);
        self.state_mut().contexts.remove(&id);
        told?;
        self.usable()?;
        Ok(left)
    }

    /// The stream `id` comes into `phase`.
    pub(super) fn enter(&mut self, id: u32, phase: Phase) {
        if let Some(stream) = self.state_mut().stream_mut(id) {
            stream.phase = phase;
        }
    }
}
