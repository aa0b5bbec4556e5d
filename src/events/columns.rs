//! Which column of a table is the time, which the place, which the polarity.

/// The meaning of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Time.
    T,
    /// Column of the sensor.
    X,
    /// Row of the sensor.
    Y,
    /// Polarity.
    P,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

impl Unit {
    /// In words.
    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Milli => "milliseconds",
            Unit::Micro => "microseconds",
            Unit::Nano => "nanoseconds",
        }
    }
    /// By its usual names.
    fn parse(name: &str) -> Option<Unit> {
        match name {
            "s" | "sec" | "second" | "seconds" => Some(Unit::Seconds),
            "ms" | "msec" | "milliseconds" => Some(Unit::Milli),
            "us" | "usec" | "µs" | "microseconds" => Some(Unit::Micro),
            "ns" | "nsec" | "nanoseconds" => Some(Unit::Nano),
            _ => None,
        }
    }
    /// Decimal digits by which a time is multiplied to be in microseconds; negative for nanoseconds.
    pub fn digits(self) -> i32 {
        match self {
            Unit::Seconds => 6,
            Unit::Milli => 3,
            Unit::Micro => 0,
            Unit::Nano => -3,
        }
    }
    /// A time in whole microseconds; none beyond what 64 bits hold.
    pub fn microseconds(self, t: f64) -> Option<i64> {
        let us = match self {
            Unit::Seconds => t * 1e6,
            Unit::Milli => t * 1e3,
            Unit::Micro => t,
            Unit::Nano => t / 1e3,
        };
        (us.abs() < 9e18).then(|| us.round() as i64)
    }
}

/// How the polarities of a table are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polarity {
    /// 1 is on; 0 and -1 are off.
    #[default]
    FromZero,
    /// MATLAB's counting from one, as in the readers of N-MNIST's authors: 1 is off, 2 is on.
    FromOne,
}

impl Polarity {
    /// By the values: from one where there are twos and nothing below one.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut twos, mut others) = (false, false);
        for v in values {
            twos |= v == 2.0;
            others |= v != 1.0 && v != 2.0;
        }
        if twos && !others { Polarity::FromOne } else { Polarity::FromZero }
    }
    /// Whether a value is on; none where it is no polarity.
    #[inline]
    pub fn on(self, v: f64) -> Option<bool> {
        match self {
            Polarity::FromZero if v == 1.0 => Some(true),
            Polarity::FromZero if v == 0.0 || v == -1.0 => Some(false),
            Polarity::FromOne if v == 1.0 || v == 2.0 => Some(v == 2.0),
            _ => None,
        }
    }
    /// What a reader should know of the coding, where it isn't the usual one.
    pub fn note(self) -> Option<String> {
        (self == Polarity::FromOne).then(|| "the polarities are 1 and 2: 1 is taken for off, 2 for on".to_owned())
    }
}

/// Where each of t, x, y, p stands, and the unit of t where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The positions of t, x, y and p.
    pub at: [usize; 4],
    /// The unit of t.
    pub unit: Option<Unit>,
}

/// How the order of columns was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The user said it.
    Asked,
    /// The columns have names.
    Names,
    /// The values fit no other of the usual orders before it.
    Values,
}

impl Order {
    /// How a table was read, for people: the order and the unit of its times, and where both are from; `asked` is whether the user said
    /// the unit.
    pub fn read_as(&self, by: By, unit: Unit, asked: bool) -> String {
        let mut letters: Vec<_> = self.at.iter().zip(["t", "x", "y", "p"]).collect();
        letters.sort();
        let letters: Vec<_> = letters.into_iter().map(|l| l.1).collect();
        let by = match by {
            By::Asked => "as asked for",
            By::Names => "by their names",
            By::Values => "by their values",
        };
        let why = match (self.unit, unit) {
            _ if asked => "as asked for",
            (Some(_), _) if by == "by their names" => "as the name says",
            (_, Unit::Seconds) => "for they have fractions",
            _ => "for they are whole numbers",
        };
        format!("columns {} {by}; times in {}, {why}", letters.join(" "), unit.name())
    }

    /// The letters that [`parse`](Self::parse) takes for this order.
    pub fn letters(&self) -> String {
        let letter = |i| self.at.iter().position(|at| *at == i).map_or('_', |c| ['t', 'x', 'y', 'p'][c]);
        (0..=self.at.into_iter().max().unwrap_or(0)).map(letter).collect()
    }

    /// The order written as letters, such as `xytp`; an underscore is a column to leave out. `xytp:ms` says the unit of time too (s, ms,
    /// us, ns).
    pub fn parse(letters: &str) -> Option<Order> {
        let (letters, unit) = match letters.split_once(':') {
            Some((letters, unit)) => (letters, Some(Unit::parse(unit)?)),
            None => (letters, None),
        };
        let at = |l: char| {
            let mut found = letters.chars().enumerate().filter(|c| c.1 == l);
            let at = found.next()?.0;
            found.next().is_none().then_some(at)
        };
        let known = letters.chars().all(|c| "txyp_".contains(c));
        Some(Order { at: [at('t')?, at('x')?, at('y')?, at('p')?], unit }).filter(|_| known)
    }

    /// Whether it is an order of four columns.
    pub fn is_of_four(&self) -> bool {
        self.at.iter().all(|&i| i < 4)
    }

    /// By the names of the columns.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Order> {
        let mut at = [None; 4];
        let mut unit = None;
        for (i, name) in names.into_iter().enumerate() {
            let Some((column, u)) = meaning(name) else {
                continue;
            };
            let slot = &mut at[column as usize];
            if slot.is_none() {
                *slot = Some(i);
                unit = unit.or(u);
            }
        }
        let [t, x, y, p] = at;
        Some(Order { at: [t?, x?, y?, p?], unit })
    }

    /// By the values of some rows of four columns: the first of the usual orders that fits all but a twentieth of them.
    pub fn guess(rows: &[[f64; 4]]) -> Option<Order> {
        const USUAL: [&str; 6] = ["txyp", "xytp", "xypt", "txpy", "tpxy", "pxyt"];
        let orders = USUAL.iter().filter_map(|o| Order::parse(o));
        orders.into_iter().find(|o| fits(rows, o)).map(|mut o| {
            o.unit = Some(unit_of(rows.iter().map(|r| r[o.at[0]])));
            o
        })
    }
}

/// The unit of unnamed times: fractions are of seconds.
pub fn unit_of(times: impl Iterator<Item = f64>) -> Unit {
    match { times }.any(|t| t.is_finite() && t.fract() != 0.0) {
        true => Unit::Seconds,
        false => Unit::Micro,
    }
}

/// Whether times that are taken for this unit are no finer than thousandths of seconds, as milliseconds with microseconds behind the point
/// are, or count by thousands of microseconds, as nanoseconds of a clock of microseconds do. Frames of a simulated camera may be
/// milliseconds apart as well; then most of their events share a time with the one before, and this is false.
pub fn is_coarse(unit: Unit, times: impl Iterator<Item = f64>) -> bool {
    const FEW: usize = 20;
    let mut times = times.filter(|t| t.is_finite());
    match unit {
        Unit::Seconds => times.all(|t| (1e3 * t - (1e3 * t).round()).abs() < 1e-6),
        Unit::Micro => {
            let (mut n, mut own, mut last) = (0, 0, f64::NAN);
            times.all(|t| {
                (n, own) = (n + 1, own + usize::from(t != last));
                last = t;
                t % 1e3 == 0.0
            }) && n >= FEW
                && 2 * own > n
        }
        _ => false,
    }
}

/// What is said of times, from the earliest to the latest of `n` events, that were taken for seconds (or microseconds) for no other reason
/// than their fractions (or that they have none), where thousandths of that are more likely: few cameras say so few events, none tells time
/// so [coarsely](is_coarse), and nothing was recorded yet in the year 2200.
pub fn doubt(unit: Unit, [from, to]: [i64; 2], n: usize, is_coarse: bool, letters: &str) -> Option<String> {
    const DAY: f64 = 86_400.0;
    const YEAR: f64 = 365.25 * DAY * 1e6;
    let (why, smaller, short) = match unit {
        Unit::Seconds => ("they have fractions", Unit::Milli, "ms"),
        Unit::Micro => ("they are whole numbers", Unit::Nano, "ns"),
        _ => return None,
    };
    if n == 0 {
        return None;
    }
    let s = (to as f64 - from as f64) / 1e6;
    let rate = n as f64 / s;
    let year = 1970.0 + from as f64 / YEAR;
    let then = if year > 2200.0 && unit == Unit::Micro {
        format!("begins in the year {year:.0}")
    } else if s > DAY || s > 600.0 && rate < 10.0 || is_coarse && s > 1.0 && rate < 10_000.0 {
        format!("is {s:.0} s long, with {rate:.1} events/s")
    } else {
        return None;
    };
    let (unit, smaller) = (unit.name(), smaller.name());
    Some(format!(
        "times are taken for {unit}, for {why}; then the recording {then}; if they are {smaller}, --columns {letters}:{short} says so"
    ))
}

/// What a column's name says of it.
pub fn meaning(name: &str) -> Option<(Column, Option<Unit>)> {
    let name = name.trim().trim_matches(['"', '\'']).to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric() && c != 'µ').filter(|w| !w.is_empty()).collect();
    let column = match *words.first()? {
        "t" | "ts" | "time" | "times" | "timestamp" | "timestamps" => Column::T,
        "x" | "xs" | "col" | "column" | "addrx" => Column::X,
        "y" | "ys" | "row" | "addry" => Column::Y,
        "p" | "ps" | "pol" | "polarity" | "polarities" | "on" | "sign" => Column::P,
        _ => return None,
    };
    Some((column, words[1..].iter().find_map(|w| Unit::parse(w))))
}

fn fits(rows: &[[f64; 4]], o: &Order) -> bool {
    let [t, x, y, p] = o.at;
    let place = |v: f64| v.fract() == 0.0 && (0.0..65536.0).contains(&v);
    let coded = Polarity::of(rows.iter().map(|r| r[p]));
    let event = |r: &[f64; 4]| place(r[x]) && place(r[y]) && coded.on(r[p]).is_some();
    let others = rows.iter().filter(|r| !event(r)).count();
    let back = rows.windows(2).filter(|w| w[1][t] < w[0][t]).count();
    !rows.is_empty() && others * 20 <= rows.len() && back * 20 <= rows.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_orders_and_units() {
        let o = Order::named(["x", "y", "polarity", "timestamp[us]"]).unwrap();
        assert_eq!((o.at, o.unit), ([3, 0, 1, 2], Some(Unit::Micro)));
        assert!(Order::named(["a", "b", "c", "d"]).is_none());
        assert_eq!(Order::parse("xy_tp").unwrap().at, [3, 0, 1, 4]);
        assert_eq!(Order::parse("xy_tp__").unwrap().letters(), "xy_tp");
        assert_eq!(Order::parse("xytp:ns").unwrap().unit, Some(Unit::Nano));
        assert!(Order::parse("xytp:h").is_none());
        assert!(Order::parse("xyt").is_none() && Order::parse("ttxyp").is_none());
        assert_eq!(meaning("t_ns"), Some((Column::T, Some(Unit::Nano))));
        assert_eq!(Unit::Nano.microseconds(1500.0), Some(2));
    }

    #[test]
    fn values_tell_the_order() {
        let rows = [[5., 7., 100., 0.], [9., 3., 200., 1.], [2., 8., 300., 1.]];
        let o = Order::guess(&rows).unwrap();
        assert_eq!((o.at, o.unit), ([2, 0, 1, 3], Some(Unit::Micro)));
        let rows = [[0.1, 7., 10., 0.], [0.2, 3., 5., -1.]];
        let o = Order::guess(&rows).unwrap();
        assert_eq!((o.at, o.unit), ([0, 1, 2, 3], Some(Unit::Seconds)));
        assert!(Order::guess(&[[0.5, 0.5, 0.5, 0.5]; 3]).is_none());
        // Polarities from one.
        let rows = [[5., 7., 100., 1.], [9., 3., 200., 2.], [2., 8., 300., 2.]];
        assert_eq!(Order::guess(&rows).unwrap().at, [2, 0, 1, 3]);
    }

    #[test]
    fn codings_of_polarity() {
        let of = |v: &[f64]| Polarity::of(v.iter().copied());
        for usual in [&[0., 1.][..], &[-1., 1.], &[1.], &[], &[0., 2.], &[1., 2., 3.], &[1., f64::NAN, 2.]] {
            assert_eq!(of(usual), Polarity::FromZero, "{usual:?}");
        }
        assert_eq!((of(&[2.]), of(&[1., 2.])), (Polarity::FromOne, Polarity::FromOne));
        let on = |p: Polarity| [-1., 0., 1., 2., 0.5].map(|v| p.on(v));
        assert_eq!(on(Polarity::FromZero), [Some(false), Some(false), Some(true), None, None]);
        assert_eq!(on(Polarity::FromOne), [None, None, Some(false), Some(true), None]);
    }
}
