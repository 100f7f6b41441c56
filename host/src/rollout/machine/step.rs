//! The transitions: each looks at what has happened, and all of them go on as far as nothing has to be waited for.

use std::collections::BTreeSet;

use policy::name::ClusterName;

use super::{Action, End, Event, Failure, Goal, OnFailure, Stage, Standing, State, Wave};
use crate::rollout::steps::Phase;

impl State {
    /// Takes note of what has happened, and says what to do about it, in this order.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Begin => self.begin(&mut actions),
            Event::Undo => self.turn_back(&mut actions),
            Event::Pause => self.paused = !matches!(self.stage, Stage::Ended(_)),
            Event::Baked => self.baked(&mut actions),
            Event::Taken(cluster, changed) => self.taken(cluster, changed, &mut actions),
            Event::Spared(cluster) => {
                if self.clusters.get(&cluster) == Some(&Standing::Taking) {
                    self.tried.insert(cluster.clone());
                    self.clusters.insert(cluster, Standing::Ready);
                }
            }
            Event::Stuck(cluster, why) => self.leave(&cluster, why),
            Event::Passed(cluster) => {
                if self.clusters.get(&cluster) == Some(&Standing::AtGate) {
                    if !self.is_in_shadow() {
                        self.passed.insert(cluster.clone());
                    }
                    self.clusters.insert(cluster, Standing::Ready);
                }
            }
            Event::Refused(cluster, why) => self.refused(cluster, why),
        }
        self.advance(&mut actions);
        actions
    }

    fn begin(&mut self, actions: &mut Vec<Action>) {
        if self.is_over() {
            return actions.push(Action::Rest);
        }
        self.paused = false;
        if self.goal == Goal::New {
            self.failure = None;
        }
        self.everyone_is(&Standing::Due);
        self.enter(Stage::Subsets, actions);
    }

    /// From here on all that was begun goes back, at once: what was there before has passed its gates long ago.
    fn turn_back(&mut self, actions: &mut Vec<Action>) {
        if self.goal == Goal::New {
            let touched: BTreeSet<_> =
                self.waves.iter().take(self.begun).flat_map(|wave| wave.clusters.iter().cloned()).collect();
            let at_once = touched.len();
            self.waves =
                vec![Wave { name: "undo".to_owned(), clusters: touched, at_once, bake: 0, shadow: None }];
            self.goal = Goal::Old;
            (self.over, self.begun) = (0, 0);
            self.passed.clear();
            self.tried.clear();
        }
        self.paused = false;
        self.everyone_is(&Standing::Due);
        self.enter(Stage::Subsets, actions);
    }

    fn everyone_is(&mut self, standing: &Standing) {
        self.clusters.values_mut().for_each(|found| *found = standing.clone());
    }

    fn baked(&mut self, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::ShadowBake(wave) => {
                let tried: Vec<ClusterName> = self.watched().cloned().collect();
                self.tried.extend(tried);
                self.enter(Stage::Routes(wave), actions);
            }
            Stage::Bake(wave) => {
                self.over = self.over.max(wave + 1);
                let next = self.after_wave(wave);
                self.enter(next, actions);
            }
            Stage::Subsets
            | Stage::Shadow(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo
            | Stage::Ended(_) => {}
        }
    }

    fn taken(&mut self, cluster: ClusterName, changed: bool, actions: &mut Vec<Action>) {
        let Some(standing) = self.clusters.get_mut(&cluster) else { return };
        if *standing != Standing::Taking {
            return;
        }
        *standing = Standing::Ready;
        let done = match self.stage {
            Stage::Shadow(_) => &mut self.tried,
            Stage::Filters(_) if self.goal == Goal::New => &mut self.passed,
            Stage::Subsets
            | Stage::ShadowBake(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::Bake(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo
            | Stage::Ended(_) => return,
        };
        if changed {
            done.remove(&cluster);
        }
        if !done.contains(&cluster) {
            *standing = Standing::AtGate;
            if self.failure.is_none() && !self.paused {
                actions.push(Action::Look(cluster));
            }
        }
    }

    fn leave(&mut self, cluster: &ClusterName, why: String) {
        if let Some(standing) = self.clusters.get_mut(cluster) {
            *standing = Standing::Behind(why);
        }
    }

    fn refused(&mut self, cluster: ClusterName, why: String) {
        let at_gate = self.clusters.get(&cluster) == Some(&Standing::AtGate);
        let baking = match self.stage {
            Stage::ShadowBake(_) => self.watched().any(|name| *name == cluster),
            Stage::Bake(_) => self.passed.remove(&cluster),
            Stage::Subsets
            | Stage::Shadow(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo
            | Stage::Ended(_) => false,
        };
        if (at_gate || baking) && self.failure.is_none() {
            self.leave(&cluster, why.clone());
            self.failure = Some(Failure { cluster, why });
        }
    }

    /// Goes on as far as nothing has to be waited for.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        while !self.is(&Standing::Taking) && !matches!(self.stage, Stage::Ended(_)) {
            if self.paused {
                return actions.extend([Action::Save, Action::Rest]);
            }
            match (&self.failure, self.goal, self.on_failure) {
                (Some(_), Goal::New, OnFailure::Undo) => {
                    self.turn_back(actions);
                    continue;
                }
                (Some(_), Goal::New, OnFailure::Stop) => {
                    return self.enter(Stage::Ended(End::Failed), actions);
                }
                (Some(_), Goal::Old, _) | (None, ..) => {}
            }
            if self.is(&Standing::AtGate) || self.is(&Standing::Due) {
                break;
            }
            let Some(next) = self.next() else { return };
            self.enter(next, actions);
        }
        self.hand_out(actions);
    }

    fn is(&self, standing: &Standing) -> bool {
        self.clusters.values().any(|found| found == standing)
    }

    /// Whether any cluster takes no more part.
    pub(super) fn is_behind(&self) -> bool {
        self.clusters.values().any(|standing| matches!(standing, Standing::Behind(_)))
    }

    /// What comes after a stage that everyone is done with; a bake is over when it is said to be.
    fn next(&self) -> Option<Stage> {
        Some(match self.stage {
            Stage::Subsets => self.begin_of(0),
            Stage::Shadow(wave) if self.is_any_on_trial(wave) => Stage::ShadowBake(wave),
            Stage::Shadow(wave) => Stage::Routes(wave),
            Stage::Routes(wave) => Stage::Filters(wave),
            Stage::Filters(wave) if wave >= self.over && self.has_to_bake(wave) => Stage::Bake(wave),
            Stage::Filters(wave) => self.after_wave(wave),
            Stage::ShadowBake(_) | Stage::Bake(_) | Stage::Ended(_) => return None,
            // A cluster that is behind may still ask for what would go.
            Stage::RoutesGo | Stage::SubsetsGo if self.is_behind() => Stage::Ended(End::Incomplete),
            Stage::RoutesGo => Stage::SubsetsGo,
            Stage::SubsetsGo => Stage::Ended(match self.goal {
                Goal::New => End::Complete,
                Goal::Old => End::Undone,
            }),
        })
    }

    fn begin_of(&self, wave: usize) -> Stage {
        match self.waves.get(wave) {
            Some(wave_now) if wave_now.shadow.is_some() => Stage::Shadow(wave),
            Some(_) => Stage::Routes(wave),
            None => Stage::RoutesGo,
        }
    }

    fn is_any_on_trial(&self, wave: usize) -> bool {
        let wave = self.waves.get(wave);
        wave.is_some_and(|wave| wave.clusters.iter().any(|cluster| self.is_on_trial(cluster)))
    }

    fn after_wave(&self, wave: usize) -> Stage {
        self.begin_of(wave + 1)
    }

    fn has_to_bake(&self, wave: usize) -> bool {
        let passed = |wave: &Wave| wave.clusters.iter().any(|cluster| self.passed.contains(cluster));
        self.goal == Goal::New && self.waves.get(wave).is_some_and(|wave| wave.bake > 0 && passed(wave))
    }

    fn enter(&mut self, stage: Stage, actions: &mut Vec<Action>) {
        if let Stage::Shadow(wave) | Stage::Routes(wave) = stage {
            self.begun = self.begun.max(wave + 1);
            self.over = self.over.max(wave);
        }
        self.pruned |= stage == Stage::SubsetsGo;
        self.stage = stage;
        let members: BTreeSet<ClusterName> = match stage {
            Stage::Subsets | Stage::RoutesGo | Stage::SubsetsGo => self.clusters.keys().cloned().collect(),
            Stage::Shadow(wave) | Stage::Routes(wave) | Stage::Filters(wave) => {
                self.waves.get(wave).map(|wave| wave.clusters.clone()).unwrap_or_default()
            }
            Stage::ShadowBake(_) | Stage::Bake(_) | Stage::Ended(_) => BTreeSet::new(),
        };
        for (name, standing) in &mut self.clusters {
            if !matches!(standing, Standing::Behind(_)) {
                *standing = if members.contains(name) { Standing::Due } else { Standing::Ready };
            }
        }
        actions.push(Action::Save);
        match stage {
            Stage::ShadowBake(wave) | Stage::Bake(wave) => actions.push(Action::Watch(wave)),
            Stage::Ended(_) => actions.push(Action::Rest),
            Stage::Subsets
            | Stage::Shadow(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo => {}
        }
    }

    /// Has those clusters begin that may.
    fn hand_out(&mut self, actions: &mut Vec<Action>) {
        let phase = match self.stage {
            _ if self.paused || self.failure.is_some() && self.goal == Goal::New => return,
            Stage::Subsets => Phase::SubsetsCome,
            Stage::Shadow(_) => Phase::Shadow,
            Stage::Routes(_) => Phase::RoutesCome,
            Stage::Filters(_) => Phase::Filters,
            Stage::RoutesGo => Phase::RoutesGo,
            Stage::SubsetsGo => Phase::SubsetsGo,
            Stage::ShadowBake(_) | Stage::Bake(_) | Stage::Ended(_) => return,
        };
        let mut free = self.free();
        for (name, standing) in &mut self.clusters {
            if free > 0 && *standing == Standing::Due {
                *standing = Standing::Taking;
                actions.push(Action::Take(name.clone(), phase));
                free -= 1;
            }
        }
        let is_waiting = self.is(&Standing::Taking) || self.is(&Standing::AtGate);
        if !is_waiting && let Some(failure) = self.exhausted() {
            self.failure = Some(failure);
            self.advance(actions);
        }
    }

    /// How many clusters may begin now.
    fn free(&self) -> usize {
        let (Stage::Shadow(wave) | Stage::Filters(wave), Goal::New) = (self.stage, self.goal) else {
            return usize::MAX;
        };
        let Some(wave) = self.waves.get(wave) else { return 0 };
        let is_out = |name: &&ClusterName| {
            let standing = self.clusters.get(*name);
            matches!(standing, Some(Standing::Taking | Standing::AtGate | Standing::Behind(_)))
        };
        wave.at_once.saturating_sub(wave.clusters.iter().filter(is_out).count())
    }

    /// Why no cluster of a wave may begin although some have to.
    fn exhausted(&self) -> Option<Failure> {
        let (Stage::Shadow(wave) | Stage::Filters(wave)) = self.stage else { return None };
        if !self.is(&Standing::Due) {
            return None;
        }
        let wave = self.waves.get(wave)?;
        wave.clusters.iter().find_map(|name| match self.clusters.get(name)? {
            Standing::Behind(why) => Some(Failure {
                cluster: name.clone(),
                why: format!(
                    "no other cluster of wave {:?} may change while it is behind: maxUnavailable is {}: {why}",
                    wave.name, wave.at_once
                ),
            }),
            Standing::Due | Standing::Taking | Standing::AtGate | Standing::Ready => None,
        })
    }
}
