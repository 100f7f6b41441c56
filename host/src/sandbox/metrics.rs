//! The metrics a guest defines.

use std::collections::BTreeMap;

use super::status::Status;

/// The low bits of an id are the metric's kind; ids of a kind go up in steps above them.
const STEP: u32 = 4;

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

/// All metrics of a VM, by name. Defining a name twice makes a second id of one metric.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    by_name: BTreeMap<(u32, String), Metric>,
    ids: BTreeMap<u32, (u32, String)>,
    defined: [u32; 3],
}

impl Metrics {
    pub(crate) fn define(&mut self, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let empty = match kind {
            0 => Metric::Counter(0),
            1 => Metric::Gauge(0),
            2 => Metric::Histogram(Vec::new()),
            _ => return Err(Status::BadArgument),
        };
        let defined = self.defined.get_mut(kind as usize).ok_or(Status::BadArgument)?;
        *defined += 1;
        let id = *defined * STEP + kind;
        let key = (kind, String::from_utf8_lossy(name).into_owned());
        self.by_name.entry(key.clone()).or_insert(empty);
        self.ids.insert(id, key);
        Ok(id)
    }

    /// A counter only goes up, and a histogram cannot be incremented at all.
    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        if matches!((id % STEP, offset), (0, ..=0) | (2.., _)) {
            return Err(Status::BadArgument);
        }
        if let Metric::Counter(value) | Metric::Gauge(value) = self.metric(id)? {
            *value = value.wrapping_add_signed(offset);
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        if id % STEP > 2 {
            return Err(Status::NotFound);
        }
        match self.metric(id)? {
            Metric::Counter(sum) => *sum = sum.wrapping_add(value),
            Metric::Gauge(level) => *level = value,
            Metric::Histogram(values) => values.push(value),
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, id: u32) -> Result<u64, Status> {
        if id % STEP > 1 {
            return Err(Status::BadArgument);
        }
        match self.metric(id)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    pub(crate) fn named(&self) -> BTreeMap<String, Metric> {
        self.by_name.iter().map(|((_, name), metric)| (name.clone(), metric.clone())).collect()
    }

    fn metric(&mut self, id: u32) -> Result<&mut Metric, Status> {
        if id % STEP > 2 {
            return Err(Status::BadArgument);
        }
        let key = self.ids.get(&id).ok_or(Status::NotFound)?;
        self.by_name.get_mut(key).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_kind_and_two_ids_can_share_a_metric() {
        let mut metrics = Metrics::default();
        let ids: Vec<_> = [0, 1, 2, 0].map(|kind| metrics.define(kind, b"m")).into();
        assert_eq!(ids, [Ok(4), Ok(5), Ok(6), Ok(8)]);
        metrics.increment(4, 2).unwrap();
        metrics.increment(8, 3).unwrap();
        assert_eq!(metrics.get(4), Ok(5));
        assert_eq!(metrics.define(3, b"m"), Err(Status::BadArgument));
    }

    #[test]
    fn a_counter_takes_no_step_of_zero_or_less_and_a_histogram_none_at_all() {
        let mut metrics = Metrics::default();
        let [counter, gauge, histogram] = [0, 1, 2].map(|kind| metrics.define(kind, b"m").unwrap());
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
