//! A child that does not outlive us.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs its arguments, and kills what it runs when its standard input ends.
///
/// The pipe ends when we close it and when we die, however we die; nothing but a shell is needed for it, where
/// `PR_SET_PDEATHSIG` would need unsafe code. The watcher reads through fd 3 as a shell gives its background
/// jobs /dev/null. `read` is a builtin, so that no process is left when the child ends by itself.
pub(super) const KEEPER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
{ read -r _ <&3; kill -KILL $child; } &
watcher=$!
wait $child
code=$?
kill $watcher 2>/dev/null
exit $code
"#;

/// How long the keeper has to end its child.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running program and the shell that keeps it.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    // Closing it is what ends the child.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts Envoy with this bootstrap; it logs to `log`.
    pub fn start(envoy: &Path, bootstrap: &Path, log: &Path) -> io::Result<Self> {
        let arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "info"]
            .into_iter()
            .chain(["--file-flush-interval-msec", "10"])
            .map(OsStr::new);
        Self::run(envoy, [OsStr::new("-c"), bootstrap.as_os_str()].into_iter().chain(arguments), log)
    }

    /// Starts a program; what it prints goes to `log`.
    pub fn run(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::create(log)?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A Ctrl-C at the terminal reaches us, and we end what we keep in order.
            .process_group(0)
            .spawn()?;
        let lifeline = keeper.stdin.take();
        Ok(Self { keeper, lifeline, log: log.to_owned() })
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.keeper.try_wait(), Ok(None))
    }

    /// The end of its log, for an error that tells why it ended.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // Where in itself Envoy was helps nobody here, and hides what it says of that.
        let tells = |line: &&str| !line.contains("[backtrace]") && !line.contains(" UNKNOWN [0x");
        let lines: Vec<&str> = text.lines().filter(tells).collect();
        lines.iter().skip(lines.len().saturating_sub(12)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Lets go of the child, without waiting: so that many end at once.
    pub fn release(&mut self) {
        drop(self.lifeline.take());
    }

    /// Waits until the released child has ended; false when it did not in time.
    pub fn wait(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.has_ended() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.release();
        // Waiting matters: the addresses are free for another lab as soon as this lab is gone.
        let _ended = self.wait();
    }
}

#[cfg(test)]
mod tests;
