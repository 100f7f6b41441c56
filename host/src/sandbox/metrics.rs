//! The metrics a guest defines.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::status::Status;

/// The low bits of an id are the metric's kind; ids of a kind go up in steps above them.
const STEP: u32 = 4;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

/// A metric's kind and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// A count that only goes up.
    Counter(u64),
    /// A value that goes up and down.
    Gauge(u64),
    /// Every value recorded, in order.
    Histogram(Vec<u64>),
}

/// The metrics of a process by kind and name: its VMs share them.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<(u32, String), Arc<Cell>>>);

/// A metric as VMs share it. Increments are many, and take no lock.
#[derive(Debug)]
enum Cell {
    Number(AtomicU64),
    Histogram(Mutex<Vec<u64>>),
}

/// The metrics that a VM has defined, by id. Defining a name twice makes a second id of one metric.
#[derive(Debug, Default)]
pub(crate) struct Metrics([Vec<Arc<Cell>>; 3]);

impl Registry {
    pub(crate) fn named(&self) -> BTreeMap<String, Metric> {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.iter().map(|((kind, name), cell)| (name.clone(), cell.metric(*kind))).collect()
    }

    fn get(&self, kind: u32, name: &[u8]) -> Arc<Cell> {
        let key = (kind, String::from_utf8_lossy(name).into_owned());
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(metrics.entry(key).or_insert_with(|| Arc::new(Cell::new(kind))))
    }
}

impl Cell {
    fn new(kind: u32) -> Self {
        if kind == HISTOGRAM { Self::Histogram(Mutex::default()) } else { Self::Number(AtomicU64::default()) }
    }

    fn metric(&self, kind: u32) -> Metric {
        match self {
            Self::Number(number) if kind == COUNTER => Metric::Counter(number.load(Ordering::Relaxed)),
            Self::Number(number) => Metric::Gauge(number.load(Ordering::Relaxed)),
            Self::Histogram(values) => {
                Metric::Histogram(values.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        }
    }
}

impl Metrics {
    pub(crate) fn define(&mut self, registry: &Registry, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let defined = self.0.get_mut(kind as usize).ok_or(Status::BadArgument)?;
        defined.push(registry.get(kind, name));
        let nth = u32::try_from(defined.len()).ok().ok_or(Status::BadArgument)?;
        Ok(nth.wrapping_mul(STEP).wrapping_add(kind))
    }

    /// A counter only goes up, and a histogram cannot be incremented at all.
    pub(crate) fn increment(&self, id: u32, offset: i64) -> Result<(), Status> {
        let metric = self.metric(id);
        match (id % STEP, metric) {
            (COUNTER | GAUGE, None) => Err(Status::NotFound),
            (COUNTER, Some(_)) if offset <= 0 => Err(Status::BadArgument),
            (COUNTER | GAUGE, Some(Cell::Number(number))) => {
                number.fetch_add(offset.cast_unsigned(), Ordering::Relaxed);
                Ok(())
            }
            (_, _) => Err(Status::BadArgument),
        }
    }

    pub(crate) fn record(&self, id: u32, value: u64) -> Result<(), Status> {
        match self.metric(id).ok_or(Status::NotFound)? {
            Cell::Number(sum) if id % STEP == COUNTER => {
                sum.fetch_add(value, Ordering::Relaxed);
            }
            Cell::Number(level) => level.store(value, Ordering::Relaxed),
            Cell::Histogram(values) => values.lock().unwrap_or_else(PoisonError::into_inner).push(value),
        }
        Ok(())
    }

    pub(crate) fn get(&self, id: u32) -> Result<u64, Status> {
        match self.metric(id) {
            _ if id % STEP > GAUGE => Err(Status::BadArgument),
            Some(Cell::Number(number)) => Ok(number.load(Ordering::Relaxed)),
            Some(Cell::Histogram(_)) | None => Err(Status::NotFound),
        }
    }

    fn metric(&self, id: u32) -> Option<&Cell> {
        let nth = (id / STEP).checked_sub(1)?;
        self.0.get((id % STEP) as usize)?.get(nth as usize).map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_kind_and_two_ids_can_share_a_metric() {
        let (registry, mut metrics) = (Registry::default(), Metrics::default());
        let ids: Vec<_> = [0, 1, 2, 0].map(|kind| metrics.define(&registry, kind, b"m")).into();
        assert_eq!(ids, [Ok(4), Ok(5), Ok(6), Ok(8)]);
        metrics.increment(4, 2).unwrap();
        metrics.increment(8, 3).unwrap();
        assert_eq!(metrics.get(4), Ok(5));
        assert_eq!(metrics.define(&registry, 3, b"m"), Err(Status::BadArgument));
    }

    #[test]
    fn a_counter_takes_no_step_of_zero_or_less_and_a_histogram_none_at_all() {
        let (registry, mut metrics) = (Registry::default(), Metrics::default());
        let [counter, gauge, histogram] =
            [0, 1, 2].map(|kind| metrics.define(&registry, kind, b"m").unwrap());
        assert_eq!(metrics.increment(counter, 0), Err(Status::BadArgument));
        assert_eq!(metrics.increment(counter, -1), Err(Status::BadArgument));
        assert_eq!(metrics.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!(metrics.get(histogram), Err(Status::BadArgument));
        assert_eq!(metrics.increment(400, 1), Err(Status::NotFound));
        metrics.record(gauge, 7).unwrap();
        metrics.increment(gauge, -3).unwrap();
        assert_eq!(metrics.get(gauge), Ok(4));
    }
}
