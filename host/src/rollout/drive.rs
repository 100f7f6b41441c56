//! Does what the machine wants, and tells it what came of it: clusters at once, gates, bakes, and the record before
//! each stage.

mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::name::ClusterName;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

use super::crew::Crew;
use super::gate::{self, Gate};
use super::job::{self, Job};
use super::machine::{Action, End, Event, Goal, Stage, Standing, State};
use super::steps::Phase;
use super::target::Trouble;

/// How often it is looked whether somebody else wants something of this rollout.
const TICK: Duration = Duration::from_millis(200);

/// What can be told of a rollout while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A stage begins, of a wave where it is one's.
    Begins(Stage, Option<String>),
    /// A cluster has taken its steps of a phase: how many objects were written and removed so far.
    Took(ClusterName, Phase, usize),
    /// A cluster could not; why.
    Stuck(ClusterName, String),
    /// What the gates of a cluster still wait for.
    Waits(ClusterName, String),
    /// The gates of a cluster are open.
    Passed(ClusterName),
    /// A gate says no; why.
    Refused(ClusterName, String),
    /// What was begun goes back.
    TurnsBack,
    /// It stops, to go on later.
    Pauses,
    /// It is over.
    Ends(End),
}

/// Who hears of it.
pub(super) type Tell<'t> = &'t mut (dyn FnMut(&Progress) + Send);

/// What came of the steps of a phase.
struct Took {
    job: Job,
    phase: Phase,
    changed: bool,
}

/// A rollout under way.
pub(super) struct Driver<'d> {
    pub(super) state: State,
    pub(super) crew: &'d mut Crew,
    pub(super) jobs: BTreeMap<ClusterName, Job>,
    /// Whether the jobs have only just looked at what is there.
    pub(super) fresh: bool,
    pub(super) gates: Vec<Arc<dyn Gate>>,
    pub(super) applied: Duration,
    tell: Tell<'d>,
    running: JoinSet<Took>,
    watching: JoinSet<Event>,
    queue: VecDeque<(ClusterName, Phase)>,
    heard: (UnboundedSender<Progress>, UnboundedReceiver<Progress>),
}

impl<'d> Driver<'d> {
    pub(super) fn new(state: State, crew: &'d mut Crew, tell: Tell<'d>) -> Self {
        Self {
            state,
            crew,
            jobs: BTreeMap::new(),
            fresh: false,
            gates: Vec::new(),
            applied: Duration::ZERO,
            tell,
            running: JoinSet::new(),
            watching: JoinSet::new(),
            queue: VecDeque::new(),
            heard: unbounded_channel(),
        }
    }

    /// Goes on until there is nothing left to do, or nobody may.
    pub(super) async fn run(mut self, first: Event) -> Result<(State, BTreeMap<ClusterName, Job>), Trouble> {
        let mut events = VecDeque::from([first]);
        let mut tick = tokio::time::interval(TICK);
        loop {
            while let Some(event) = events.pop_front() {
                if self.step(event, &mut events).await? {
                    return Ok((self.state, self.jobs));
                }
            }
            self.fill(&mut events);
            if !events.is_empty() {
                continue;
            }
            tokio::select! {
                Some(took) = self.running.join_next() => events.push_back(self.came(joined(took))),
                Some(event) = self.watching.join_next() => events.push_back(joined(event)),
                Some(progress) = self.heard.1.recv() => (self.tell)(&progress),
                _ = tick.tick() => events.extend(self.look_around()?),
            }
        }
    }

    /// Takes note of an event and does what follows at once; true if nothing is left to do.
    async fn step(&mut self, event: Event, events: &mut VecDeque<Event>) -> Result<bool, Trouble> {
        self.tell_of(&event);
        let (stage, goal) = (self.state.stage(), self.state.goal());
        let begins = matches!(event, Event::Begin | Event::Undo);
        let actions = self.state.step(event);
        if begins || self.state.goal() != goal {
            self.fresh = self.fresh && self.state.goal() == Goal::New;
            if self.state.goal() != goal {
                (self.tell)(&Progress::TurnsBack);
            }
        }
        if begins || stage != self.state.stage() {
            self.tell_stage();
        }
        for action in actions {
            match action {
                Action::Save => self.crew.save(&self.state).await?,
                Action::Take(cluster, phase) => self.queue.push_back((cluster, phase)),
                Action::Look(cluster) => match self.gates_of(&cluster) {
                    Some((gates, wanted)) => {
                        self.watching.spawn(watch::open(gates, wanted, self.pace(), self.heard.0.clone()));
                    }
                    None => events.push_back(Event::Passed(cluster)),
                },
                Action::Watch(wave) => self.watch(wave, events),
                Action::Rest => {
                    if self.state.is_paused() {
                        (self.tell)(&Progress::Pauses);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Begins as much as may be under way at a time.
    fn fill(&mut self, events: &mut VecDeque<Event>) {
        while self.running.len() < self.crew.how.parallel.max(1)
            && let Some((cluster, phase)) = self.queue.pop_front()
        {
            let found = self.jobs.remove(&cluster).filter(|_| phase != Phase::SubsetsCome || self.fresh);
            let waits = found.as_ref().and_then(|job| self.waits(job, phase));
            if let Some(mut job) = found {
                if let Some(trouble) = waits {
                    events.push_back(Event::Stuck(cluster.clone(), trouble.to_string()));
                    job.trouble = Some(trouble);
                    self.jobs.insert(cluster, job);
                    continue;
                }
                self.spawn(cluster, phase, async { job });
            } else {
                let task = self.crew.task(&cluster, self.state.goal());
                self.spawn(cluster, phase, Job::start(task));
            }
        }
    }

    fn spawn(&mut self, cluster: ClusterName, phase: Phase, job: impl Future<Output = Job> + Send + 'static) {
        let is_asked = matches!(phase, Phase::Shadow | Phase::Filters)
            && self.state.goal() == Goal::New
            && !self.crew.is_dry();
        let gates = if is_asked { self.gates.clone() } else { Vec::new() };
        let pace = self.pace();
        self.running.spawn(async move {
            watch::before(&gates, &cluster, pace).await;
            let job = job.await;
            let before = job.steps.len();
            let job = job.phase(phase).await;
            let changed = job.steps.len() != before;
            Took { job, phase, changed }
        });
    }

    fn pace(&self) -> watch::Pace {
        watch::Pace::of(self.crew.how.parallel)
    }

    fn waits(&self, job: &Job, phase: Phase) -> Option<Trouble> {
        if phase != Phase::RoutesCome || !self.state.may_lack_subsets() {
            return None;
        }
        let behind: Vec<&Job> = self.jobs.values().filter(|job| job.trouble.is_some()).collect();
        job::waits(job, &behind)
    }

    fn came(&mut self, Took { job, phase, changed }: Took) -> Event {
        let cluster = job.change.cluster.clone();
        let event = match &job.trouble {
            Some(trouble) => Event::Stuck(cluster.clone(), trouble.to_string()),
            None => {
                if phase == Phase::Filters {
                    self.crew.has(&cluster, self.state.goal());
                }
                let count = job.change.written.len() + job.change.removed.len();
                (self.tell)(&Progress::Took(cluster.clone(), phase, count));
                if phase == Phase::Shadow && !job.has_trials() {
                    Event::Spared(cluster.clone())
                } else {
                    Event::Taken(cluster.clone(), changed)
                }
            }
        };
        self.jobs.insert(cluster, job);
        event
    }

    /// What somebody else wants: nothing, that it pauses, or that it is not ours any more.
    fn look_around(&mut self) -> Result<Option<Event>, Trouble> {
        self.crew.is_still_ours()?;
        Ok((!self.state.is_paused() && self.crew.is_to_pause()).then_some(Event::Pause))
    }

    /// The gates of a cluster and what they are asked; none for what only pretends.
    fn gates_of(&self, cluster: &ClusterName) -> Option<(Vec<Arc<dyn Gate>>, gate::Wanted)> {
        let job = self.jobs.get(cluster).filter(|_| !self.crew.is_dry())?;
        let in_shadow = self.state.is_in_shadow();
        let applied: Arc<dyn Gate> =
            Arc::new(watch::Applied { looker: job.looker(in_shadow)?, patience: self.applied });
        let wanted = gate::Wanted {
            cluster: cluster.clone(),
            all: Arc::clone(job.expected(in_shadow)),
            since: Instant::now(),
        };
        Some(([vec![applied], self.gates.clone()].concat(), wanted))
    }

    fn watch(&mut self, wave: usize, events: &mut VecDeque<Event>) {
        let Some(wave) = self.state.waves().get(wave).filter(|_| !self.crew.is_dry()) else {
            return events.push_back(Event::Baked);
        };
        let seconds = if self.state.is_in_shadow() { wave.shadow.unwrap_or_default() } else { wave.bake };
        let watched: Vec<_> = self.state.watched().filter_map(|name| self.gates_of(name)).collect();
        let (time, pace) = (Duration::from_secs(seconds), self.pace());
        self.watching.spawn(watch::bake(watched, time, pace, self.heard.0.clone()));
    }

    fn tell_of(&mut self, event: &Event) {
        let progress = match event {
            Event::Stuck(cluster, why) => Progress::Stuck(cluster.clone(), why.clone()),
            Event::Passed(cluster) if self.is_at_gate(cluster) => Progress::Passed(cluster.clone()),
            Event::Refused(cluster, why) => Progress::Refused(cluster.clone(), why.clone()),
            Event::Passed(_)
            | Event::Begin
            | Event::Taken(..)
            | Event::Spared(_)
            | Event::Baked
            | Event::Pause
            | Event::Undo => return,
        };
        (self.tell)(&progress);
    }

    fn is_at_gate(&self, cluster: &ClusterName) -> bool {
        self.state.clusters().get(cluster) == Some(&Standing::AtGate)
    }

    fn tell_stage(&mut self) {
        let stage = self.state.stage();
        let wave = self.state.wave();
        let progress = match stage {
            Stage::Ended(end) => Progress::Ends(end),
            Stage::Subsets
            | Stage::Shadow(_)
            | Stage::ShadowBake(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::Bake(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo => Progress::Begins(stage, wave.map(|wave| wave.name.clone())),
        };
        (self.tell)(&progress);
    }
}

/// What a task gave; a panic in one is a panic here.
fn joined<T>(given: Result<T, JoinError>) -> T {
    match given {
        Ok(given) => given,
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}
