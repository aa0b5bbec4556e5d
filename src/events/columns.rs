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

/// Where each of t, x, y, p stands, and the unit of t where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The positions of t, x, y and p.
    pub at: [usize; 4],
    /// The unit of t.
    pub unit: Option<Unit>,
}

impl Order {
    /// The order written as letters, such as `xytp`; an underscore is a column to leave out.
    pub fn parse(letters: &str) -> Option<Order> {
        let at = |l: char| {
            let mut found = letters.chars().enumerate().filter(|c| c.1 == l);
            let at = found.next()?.0;
            found.next().is_none().then_some(at)
        };
        let known = letters.chars().all(|c| "txyp_".contains(c));
        Some(Order { at: [at('t')?, at('x')?, at('y')?, at('p')?], unit: None }).filter(|_| known)
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

/// What a column's name says of it.
pub fn meaning(name: &str) -> Option<(Column, Option<Unit>)> {
    let name = name.trim().trim_matches(['"', '\'']).to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric() && c != 'µ').filter(|w| !w.is_empty()).collect();
    let column = match *words.first()? {
        "t" | "ts" | "time" | "times" | "timestamp" | "timestamps" => Column::T,
        "x" | "col" | "column" | "addrx" => Column::X,
        "y" | "row" | "addry" => Column::Y,
        "p" | "pol" | "polarity" | "polarities" | "on" | "sign" => Column::P,
        _ => return None,
    };
    let unit = words[1..].iter().find_map(|w| match *w {
        "s" | "sec" | "second" | "seconds" => Some(Unit::Seconds),
        "ms" => Some(Unit::Milli),
        "us" | "usec" | "µs" | "microseconds" => Some(Unit::Micro),
        "ns" | "nsec" => Some(Unit::Nano),
        _ => None,
    });
    Some((column, unit))
}

fn fits(rows: &[[f64; 4]], o: &Order) -> bool {
    let [t, x, y, p] = o.at;
    let place = |v: f64| v.fract() == 0.0 && (0.0..65536.0).contains(&v);
    let event = |r: &[f64; 4]| place(r[x]) && place(r[y]) && (r[p] == 0.0 || r[p].abs() == 1.0);
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
    }
}
