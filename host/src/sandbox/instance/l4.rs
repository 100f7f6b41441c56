//! Takes a TCP connection's data through the filter, and tells it of the end.

use super::Instance;
use crate::sandbox::error::Trapped;
use crate::sandbox::message::Side;
use crate::sandbox::stream::Phase;

/// Who closed a connection, as the guest is told.
const UNKNOWN: u32 = 0;
const LOCAL: u32 = 1;
const REMOTE: u32 = 2;

impl Instance {
    /// Shows the filter a new connection, which waits for its answer.
    pub(crate) fn show_connection(&mut self, id: u32) -> Result<(), Trapped> {
        if let Some(l4) = self.state_mut().l4_mut(id) {
            l4.unread = Some((Vec::new(), false));
            l4.paused = true;
        }
        if self.answer(id, |exports| &exports.on_new_connection, id)? == 0 {
            self.continue_connection(id)?;
        }
        Ok(())
    }

    /// Lets what the filter holds back go on: the connection itself, then what the client has sent meanwhile; or data.
    pub(crate) fn continue_connection(&mut self, id: u32) -> Result<(), Trapped> {
        let Some(l4) = self.state_mut().l4_mut(id) else { return Ok(()) };
        l4.paused = false;
        match l4.unread.take() {
            Some((bytes, end)) if end || !bytes.is_empty() => self.client_sends(id, &bytes, end),
            Some(_) => Ok(()),
            None => {
                l4.downstream.pass();
                Ok(())
            }
        }
    }

    /// The client sends `bytes`, which the filter is shown behind what it held back.
    pub(crate) fn client_sends(&mut self, id: u32, bytes: &[u8], end: bool) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        if let Some((unread, ended)) = stream.l4_mut().and_then(|l4| l4.unread.as_mut()) {
            unread.extend_from_slice(bytes);
            *ended |= end;
            return Ok(());
        }
        stream.phase = stream.phase.max(Phase::Data);
        let Some(l4) = stream.l4_mut().filter(|l4| !l4.closed && !l4.downstream.ended) else { return Ok(()) };
        l4.downstream.ended = end;
        l4.last_end = if end { Some(Side::Request) } else { l4.last_end };
        l4.downstream.held = true;
        l4.downstream.buffer.extend_from_slice(bytes);
        let size = u32::try_from(l4.downstream.buffer.len()).unwrap_or(u32::MAX);
        let answer = self.answer(id, |exports| &exports.on_downstream_data, (id, size, u32::from(end)))?;
        if let Some(l4) = self.state_mut().l4_mut(id) {
            l4.paused = answer != 0;
            if !l4.paused && !l4.closed {
                l4.downstream.held = false;
                l4.downstream.pass();
            }
        }
        Ok(())
    }

    /// The upstream sends `bytes`; there is none while the connection itself is held back.
    pub(crate) fn upstream_sends(&mut self, id: u32, bytes: &[u8], end: bool) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        if stream.l4().is_some_and(|l4| l4.unread.is_some()) {
            return Ok(());
        }
        stream.phase = stream.phase.max(Phase::Response);
        let Some(l4) = stream.l4_mut().filter(|l4| !l4.closed && !l4.upstream.ended) else { return Ok(()) };
        l4.upstream.ended = end;
        l4.last_end = if end { Some(Side::Response) } else { l4.last_end };
        l4.upstream.held = true;
        l4.upstream.buffer.extend_from_slice(bytes);
        let size = u32::try_from(l4.upstream.buffer.len()).unwrap_or(u32::MAX);
        let answer = self.answer(id, |exports| &exports.on_upstream_data, (id, size, u32::from(end)))?;
        if let Some(l4) = self.state_mut().l4_mut(id)
            && answer == 0
            && !l4.closed
        {
            l4.upstream.held = false;
            l4.upstream.pass();
        }
        if end {
            self.callback(id, |exports| &exports.on_upstream_close, (id, UNKNOWN))?;
        }
        Ok(())
    }

    /// Tells the guest that the connection is closed, once: it is done before it is logged, unlike an HTTP stream.
    pub(crate) fn close_connection(&mut self, id: u32, by_filter: bool) -> Result<(), Trapped> {
        let Some(l4) = self.state_mut().l4_mut(id).filter(|l4| !l4.told) else { return Ok(()) };
        l4.told = true;
        l4.closed |= by_filter;
        // When the upstream ends after the client, it is the TCP proxy that closes.
        let by_us = l4.closed || (l4.downstream.ended && l4.last_end == Some(Side::Response));
        self.callback(id, |exports| &exports.on_downstream_close, (id, if by_us { LOCAL } else { REMOTE }))?;
        self.callback(id, |exports| &exports.on_done, id)?;
        self.enter(id, Phase::Log);
        self.callback(id, |exports| &exports.on_log, id)?;
        self.callback(id, |exports| &exports.on_delete, id)?;
        Ok(())
    }
}
