//! Work for the rows that a gate needs, and for no others.
//!
//! [`List`] numbers the rows that are needed, and [`Alike`] those that differ; the other kernels read their count from its buffer, so that
//! nobody waits for it. What they write for rows is compact, `[count, c]`, and on a GPU they are dispatched for no more
//! ([`Kernel::counted`]). A buffer may be longer than the count (on a GPU the host does not know it): **what lies behind is left as it
//! was**, and nobody reads it. Packed spikes stay where they were, a bit each, and are zero where nothing was computed.

use super::attention::{Product, ProductU};
use super::bit_matrix::{BitMatrix, Pick};
use super::neuron::{NeuronU, step_row};
use super::par::{Shared, lines, prefetch, task_rows};
use super::product::{WALK_BELOW, Way, add_spikes, bit_density, dense, gpu_walk_below, product};
use super::{AnyKernel, Args, Case, Counted, Data, Gen, Kernel, Tolerance, simd, words};
use crate::neuron::{Charging, Model, Neuron, NeuronKind};
use crate::{uniform, with_model};
use rayon::prelude::*;

/// As a slot: nothing happens there, the neuron's spikes and membrane are nobody's concern any more.
pub const SKIP: u32 = u32::MAX;
/// As a slot: no input arrives, but time passes.
pub const IDLE: u32 = u32::MAX - 1;

/// What a closed step means for the neurons behind a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// They hear it like any other, but for those behind the last open step.
    Heard = 0,
    /// Nothing arrives and time passes, for ever.
    Idle = 1,
    /// Nothing arrives and time passes, but behind the last open step.
    IdleUntilLast = 2,
}

uniform! {
    /// Uniform of [`List`].
    pub struct ListU {
        /// T.
        steps: u32,
        /// Places x samples.
        rows: u32,
        /// Channels of the router.
        experts: u32,
        /// The expert whose rows these are.
        expert: u32,
        /// A [`Closed`].
        idle: u32
    }
}

/// What a list is read by: `plan`\[1 + rows + T rows\].
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The places at which anything happens at any step. In the buffer their number stands before them, and [`SKIP`] behind them.
    pub places: &'a [u32],
    /// Of each row (step, place) its number in the list, or [`SKIP`] or [`IDLE`].
    pub slots: &'a [u32],
}

impl<'a> Plan<'a> {
    /// Words of the buffer.
    pub fn len(steps: usize, rows: usize) -> usize {
        1 + rows + steps * rows
    }
    /// What the buffer holds.
    pub fn of(plan: &'a [u32], rows: usize) -> Self {
        Plan { places: &plan[1..1 + plan[0] as usize], slots: &plan[1 + rows..] }
    }
}

/// Writes the numbers `n` of those that are chosen in order, and [`SKIP`] behind them; returns how many they are.
fn number(out: &mut [u32], chosen: impl Iterator<Item = u32>) -> u32 {
    let mut n = 0;
    for i in chosen {
        out[n] = i;
        n += 1;
    }
    out[n..].fill(SKIP);
    n as u32
}

/// r bits\[T, rows, experts\] -> plan ([`Plan`]), list\[T rows\], count\[1\].
///
/// A row (step, place) is needed where the expert's gate at that place is open then, and with [`Closed::Heard`] while it is open later. `list`
/// holds the numbers of the needed rows in order, and [`SKIP`] behind them.
pub struct List;

impl Kernel for List {
    head!("active/list", ListU, [r: ReadU32, plan: WriteU32, list: WriteU32, count: WriteU32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, _: &ListU) -> usize {
        256
    }
    fn cpu(&self, u: &ListU, args: &mut Args<'_>) {
        let (r, plan, list, count) = (args.u32(0), args.out_u32(0), args.out_u32(1), args.out_u32(2));
        let (rows, nw, e) = (u.rows as usize, words(u.experts as usize), u.expert as usize);
        let (places, slots) = plan.split_at_mut(1 + rows);
        let open = |i: usize| r[i * nw + e / 32] >> (e % 32) & 1 != 0;
        // From each place's last step back: 1 where the gate opens from there on, 2 where it is open. `slots` holds that for now.
        for i in (0..slots.len()).rev() {
            let later = i + rows < slots.len() && slots[i + rows] != 0;
            slots[i] = if open(i) { 2 } else { u32::from(later) };
        }
        let (heard, forever) = (u.idle == Closed::Heard as u32, u.idle == Closed::Idle as u32);
        let mut n = 0;
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = match *slot {
                0 if !forever => SKIP,
                0 | 1 if !heard => IDLE,
                _ => {
                    list[n as usize] = i as u32;
                    n += 1;
                    n - 1
                }
            };
        }
        list[n as usize..].fill(SKIP);
        count[0] = n;
        // What happens at a place at all happens from its first step on.
        let first = &slots[..rows.min(slots.len())];
        places[0] = number(&mut places[1..], (0..).zip(first).filter(|(_, slot)| **slot != SKIP).map(|(p, _)| p));
    }
    fn cases(&self) -> Vec<Case<ListU>> {
        let mut g = Gen::new("active/list");
        let mut out = Vec::new();
        for (steps, rows, experts, expert, rate) in [
            (4, 5, 3, 1, 0.2),
            (1, 9, 1, 0, 0.5),
            (16, 70, 33, 32, 0.05),
            (3, 300, 4, 2, 0.0),
            (5, 61, 2, 0, 1.0),
            (2, 0, 4, 0, 0.5),
            (0, 3, 4, 0, 0.5),
        ] {
            for idle in [0, 1, 2] {
                let u = ListU { steps, rows, experts, expert, idle };
                let n = (steps * rows) as usize;
                let name = format!("[{steps}, {rows}], expert {expert} of {experts} at {rate}, idle {idle}");
                let plan = Plan::len(steps as usize, rows as usize);
                out.push(Case::new(name, u, vec![g.bits(n, experts as usize, rate)], vec![plan, n, 1]));
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// `plan`, `list` and `count` of [`List`] for random gates, and the count.
fn listed(g: &mut Gen, steps: u32, rows: u32, rate: f32, idle: u32) -> ([Data; 3], usize) {
    let n = (steps * rows) as usize;
    let r = g.bits(n, 1, rate);
    let (mut plan, mut list, mut count) = (vec![0; Plan::len(steps as usize, rows as usize)], vec![0; n], [0]);
    let u = ListU { steps, rows, experts: 1, expert: 0, idle };
    Kernel::cpu(&List, &u, &mut Args::new(vec![r.words()], vec![&mut plan, &mut list, &mut count]));
    let active = count[0] as usize;
    ([Data::U32(plan), Data::U32(list), Data::U32(count.to_vec())], active)
}

uniform! {
    /// Uniform of [`Alike`].
    pub struct AlikeU {
        /// T.
        steps: u32,
        /// Places x samples.
        rows: u32,
        /// Planes of spikes.
        planes: u32,
        /// Channels.
        c: u32
    }
}

/// x bits\[planes, T, rows, c\] -> plan ([`Plan`]), list\[T rows\], count\[1\], home\[rows\].
///
/// What a map makes of a row (step, place) without spikes is the same for all of them, and what neurons from rest do at a place where
/// none ever arrives is too. So the rows with spikes are listed and the first one without, whose slot the others share; and as places
/// those with spikes at any step and the first one without: `home` holds that one for each such place, and for others themselves.
pub struct Alike;

impl Kernel for Alike {
    head!("active/alike", AlikeU, [x: ReadU32, plan: WriteU32, list: WriteU32, count: WriteU32, home: WriteU32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &AlikeU) -> usize {
        // Without rows too there is a count to write.
        (u.steps as usize * u.rows as usize).max(1)
    }
    fn cleared(&self) -> bool {
        true
    }
    fn finish(&self, u: &AlikeU) -> Option<[usize; 2]> {
        Some([u.steps as usize * u.rows as usize, 256])
    }
    fn cpu(&self, u: &AlikeU, args: &mut Args<'_>) {
        let (x, plan, list, count, home) = (args.u32(0), args.out_u32(0), args.out_u32(1), args.out_u32(2), args.out_u32(3));
        let (rows, all, nw) = (u.rows as usize, (u.steps * u.rows) as usize, words(u.c as usize));
        let mut arrives = vec![false; all];
        for plane in x.chunks_exact((all * nw).max(1)) {
            arrives.iter_mut().zip(plane.chunks_exact(nw)).for_each(|(a, row)| *a |= row.iter().any(|w| *w != 0));
        }
        let (places, slots) = plan.split_at_mut(1 + rows);
        let silent = arrives.iter().position(|a| !a);
        count[0] = number(list, (0..all as u32).filter(|&i| arrives[i as usize] || Some(i as usize) == silent));
        (0..).zip(&list[..count[0] as usize]).for_each(|(n, &i)| slots[i as usize] = n);
        if let Some(silent) = silent {
            let shared = slots[silent];
            slots.iter_mut().zip(&arrives).filter(|(_, a)| !**a).for_each(|(slot, _)| *slot = shared);
        }
        home.fill(0);
        arrives.chunks_exact(rows.max(1)).for_each(|step| home.iter_mut().zip(step).for_each(|(h, a)| *h |= u32::from(*a)));
        let silent = home.iter().position(|h| *h == 0).map(|p| p as u32);
        for (p, h) in (0..).zip(home.iter_mut()) {
            *h = if *h != 0 { p } else { silent.unwrap_or(p) };
        }
        places[0] = number(&mut places[1..], (0..).zip(home).filter(|(p, h)| p == *h).map(|(p, _)| p));
    }
    fn cases(&self) -> Vec<Case<AlikeU>> {
        let mut g = Gen::new("active/alike");
        [
            (4, 5, 1, 33, 0.01),
            (1, 9, 2, 3, 0.1),
            (16, 70, 3, 64, 0.001),
            (3, 300, 1, 40, 0.0),
            (5, 61, 1, 32, 1.0),
            (2, 600, 1, 5, 0.1),
            (2, 0, 1, 4, 0.5),
            (0, 3, 1, 4, 0.5),
        ]
        .map(|(steps, rows, planes, c, rate)| {
            let (n, u) = ((steps * rows) as usize, AlikeU { steps, rows, planes, c });
            let outputs = vec![Plan::len(steps as usize, rows as usize), n, 1, rows as usize];
            let x = g.bits(n * planes as usize, c as usize, rate);
            Case::new(format!("{planes} x [{steps}, {rows}, {c}] at {rate}"), u, vec![x], outputs)
        })
        .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Spread`].
    pub struct SpreadU {
        /// T.
        steps: u32,
        /// Rows of a step.
        rows: u32,
        /// Words of a row.
        n: u32,
        /// Where in `from` those rows begin.
        first: u32
    }
}

/// x\[T, rows, n\] words, from -> y\[T, rows, n\]: y\[t, p\] = x\[t, from\[first + p\]\]. Of one step x may have fewer rows.
pub struct Spread;

impl Kernel for Spread {
    head!("active/spread", SpreadU, [x: ReadU32, from_: ReadU32, y: WriteU32]);
    fn threads(&self, u: &SpreadU) -> usize {
        u.steps as usize * u.rows as usize * u.n as usize
    }
    fn cpu(&self, u: &SpreadU, args: &mut Args<'_>) {
        let (x, from, y) = (args.u32(0), args.u32(1), args.out_u32(0));
        let (rows, n) = ((u.rows as usize).max(1), (u.n as usize).max(1));
        let task = task_rows(n);
        y.par_chunks_mut(task * n).enumerate().for_each(|(i, y)| {
            for (row, y) in (i * task..).zip(y.chunks_exact_mut(n)) {
                let from = row / rows * rows + from[u.first as usize + row % rows] as usize;
                y.copy_from_slice(&x[from * n..(from + 1) * n]);
            }
        });
    }
    fn cases(&self) -> Vec<Case<SpreadU>> {
        let mut g = Gen::new("active/spread");
        [(4, 5, 3, 0, 5), (1, 300, 70, 7, 4), (3, 9, 1, 1, 2), (0, 3, 2, 0, 3), (1, 4, 0, 0, 2)]
            .map(|(steps, rows, n, first, of)| {
                let x = g.below((steps * if steps > 1 { rows } else { of } * n) as usize, 1 << 32);
                let inputs = vec![x, g.below((first + rows) as usize, of as usize)];
                let u = SpreadU { steps, rows, n, first };
                Case::new(format!("[{steps}, {rows}, {n}] of {of}"), u, inputs, vec![(steps * rows * n) as usize])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Linear`].
    pub struct LinearU {
        /// Rows of x.
        rows: u32,
        /// Planes of spikes.
        planes: u32,
        /// Input channels.
        cin: u32,
        /// Output channels.
        cout: u32,
        /// Whether `bias` is added.
        has_bias: u32
    }
}

/// x bits\[planes, rows, cin\], list, count, w\[cin, cout\], bias\[cout\] (or empty) -> y\[count, cout\].
pub struct Linear;

impl Kernel for Linear {
    head!(
        "active/linear",
        LinearU,
        [x: ReadU32, list: ReadU32, count: ReadU32, w: ReadF32, bias: ReadF32, y: WriteF32]
    );
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        gpu_walk_below(false)
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &LinearU) -> usize {
        super::matmul::tiles(u.rows, u.cout, 1)
    }
    fn counted(&self, u: &LinearU) -> Option<Counted> {
        Some(Counted { input: 2, rows: 64, threads: super::matmul::tiles(1, u.cout, 1) as u32 })
    }
    fn cpu(&self, u: &LinearU, args: &mut Args<'_>) {
        let (x, list, n, w, bias, y) = (args.u32(0), args.u32(1), args.u32(2)[0], args.f32(3), args.f32(4), args.out_f32(0));
        let (rows, c, planes) = (u.rows as usize, u.cin as usize, u.planes as usize);
        let listed = |list| BitMatrix { x, rows, c, planes, pick: Pick::Listed(list) };
        if n == 0 {
            return;
        }
        let list = &list[..n as usize];
        // As full as the whole, so that a row's product is done in the same way wherever it stands.
        let way = Way::of(listed(list).density(), WALK_BELOW);
        let n = u.cout as usize;
        product(way, &listed(list), w, bias, &mut y[..list.len() * n]);
    }
    fn cases(&self) -> Vec<Case<LinearU>> {
        let mut g = Gen::new("active/linear");
        let mut out = Vec::new();
        for (rows, planes, cin, cout, rate, has_bias, open) in [
            (3, 1, 5, 7, 0.5, 1, 0.5),
            (70, 2, 64, 130, 0.05, 0, 0.3),
            (300, 3, 100, 65, 0.4, 1, 0.7),
            (40, 1, 40, 42, 0.04, 1, 0.0),
            (65, 1, 33, 64, 0.3, 0, 1.0),
        ] {
            let u = LinearU { rows, planes, cin, cout, has_bias };
            let ([_, list, count], n) = listed(&mut g, 1, rows, open, 0);
            let x = g.bits((planes * rows) as usize, cin as usize, rate);
            let (w, bias, y) = ((cin * cout) as usize, (cout * has_bias) as usize, n * cout as usize);
            let name = format!("{n} of {planes} x [{rows}, {cin}] at {rate} to {cout}");
            let inputs = |w, bias| vec![x.clone(), list.clone(), count.clone(), w, bias];
            out.push(Case::new(format!("{name}, dyadic"), u, inputs(g.dyadic(w), g.dyadic(bias)), vec![y]).exact());
            out.push(Case::new(name, u, inputs(g.f32s(w), g.f32s(bias)), vec![y]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

uniform! {
    /// Uniform of [`Query`].
    pub struct QueryU {
        /// Rows of q: groups x tokens.
        rows: u32,
        /// Tokens of a group.
        tokens: u32,
        /// Channels of q.
        dk: u32,
        /// Channels of a value.
        dv: u32,
        /// Factor.
        scale: f32
    }
}

/// q bits\[groups, tokens, dk\], list, count, kv\[groups, dk, dv\] (integers) -> y\[count, dv\] = scale q kv.
pub struct Query;

impl Kernel for Query {
    head!("active/query", QueryU, [q: ReadU32, list: ReadU32, count: ReadU32, kv: ReadF32, y: WriteF32]);
    fn threads(&self, u: &QueryU) -> usize {
        u.rows as usize * u.dv as usize
    }
    fn counted(&self, u: &QueryU) -> Option<Counted> {
        Some(Counted { input: 2, rows: 1, threads: u.dv })
    }
    fn cpu(&self, u: &QueryU, args: &mut Args<'_>) {
        let (q, list, n, kv, y) = (args.u32(0), args.u32(1), args.u32(2)[0] as usize, args.f32(3), args.out_f32(0));
        let (rows, tokens, dk, dv) = (u.rows as usize, u.tokens as usize, u.dk as usize, u.dv as usize);
        let list = &list[..n];
        // Sums of integers are the same either way.
        let way = Way::of(bit_density(q, n * dk), WALK_BELOW);
        // The list is in order, so that each group's rows are a run of it.
        let mut runs = Vec::new();
        let mut rest = &mut y[..n * dv];
        let mut first = 0;
        while first < n && dv > 0 {
            let group = list[first] as usize / tokens;
            let end = first + list[first..].partition_point(|&row| (row as usize) < (group + 1) * tokens);
            let (run, behind) = std::mem::take(&mut rest).split_at_mut((end - first) * dv);
            runs.push((group, &list[first..end], run));
            (rest, first) = (behind, end);
        }
        runs.into_par_iter().for_each(|(group, list, y)| {
            let kv = &kv[group * dk * dv..(group + 1) * dk * dv];
            if way == Way::Dense {
                let listed = BitMatrix { x: q, rows, c: dk, planes: 1, pick: Pick::Listed(list) };
                dense(&listed, kv, &[], y);
                return y.iter_mut().for_each(|y| *y *= u.scale);
            }
            // Rows of a task, where one group has many.
            const ROWS: usize = 64;
            let nw = words(dk);
            list.par_chunks(ROWS).zip(y.par_chunks_mut(ROWS * dv)).for_each(|(list, y)| {
                let mut spikes = vec![0; 32 * nw + 32];
                simd(
                    #[inline(always)]
                    || {
                        for (&row, y) in list.iter().zip(y.chunks_exact_mut(dv)) {
                            let row = row as usize * nw;
                            add_spikes(q[row..row + nw].iter().copied(), &mut spikes, kv, dv, u.scale, y);
                        }
                    },
                );
            });
        });
    }
    fn cases(&self) -> Vec<Case<QueryU>> {
        let mut g = Gen::new("active/query");
        let mut out = Vec::new();
        for (groups, tokens, dk, dv, rate, open) in [
            (2, 5, 7, 9, 0.3, 0.5),
            (3, 64, 40, 70, 0.1, 0.3),
            (4, 9, 33, 130, 0.5, 1.0),
            (1, 200, 96, 130, 0.1, 0.9),
            (2, 9, 64, 3, 0.2, 1.0),
            (2, 3, 4, 4, 0.5, 0.0),
        ] {
            let rows = groups * tokens;
            let u = QueryU { rows, tokens, dk, dv, scale: 0.125 };
            let ([_, list, count], n) = listed(&mut g, 1, rows, open, 0);
            let q = g.bits(rows as usize, dk as usize, rate);
            let Data::U32(kv) = g.below((groups * dk * dv) as usize, 50) else { continue };
            let kv = Data::F32(kv.into_iter().map(|v| v as f32).collect());
            let name = format!("{n} of [{groups}, {tokens}, {dk}] to {dv}");
            out.push(Case::new(name, u, vec![q, list, count, kv], vec![n * dv as usize]).exact());
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`KeyValue`].
    pub struct KeyValueU {
        /// T x B.
        groups: u32,
        /// Tokens of a group.
        tokens: u32,
        /// Channels of a key.
        dk: u32,
        /// Channels of a value.
        dv: u32
    }
}

/// k bits\[groups, tokens, dk\], v bits\[groups, tokens, dv\], list, count -> y\[groups, dk, dv\] = K^T V of the groups that are listed, with all of their
/// tokens; zero for others.
pub struct KeyValue;

impl KeyValue {
    /// 64 for each tile of 32 x 32 results.
    fn threads_of_group(u: &KeyValueU) -> u32 {
        u.dk.div_ceil(32) * u.dv.div_ceil(32) * 64
    }
}

impl Kernel for KeyValue {
    head!("active/key_value", KeyValueU, [k: ReadU32, v: ReadU32, list: ReadU32, count: ReadU32, y: WriteF32]);
    fn threads(&self, u: &KeyValueU) -> usize {
        u.groups as usize * Self::threads_of_group(u) as usize
    }
    fn counted(&self, u: &KeyValueU) -> Option<Counted> {
        Some(Counted { input: 3, rows: u.tokens, threads: Self::threads_of_group(u) })
    }
    fn cleared(&self) -> bool {
        true
    }
    fn cpu(&self, u: &KeyValueU, args: &mut Args<'_>) {
        let (k, v, list, n, y) = (args.u32(0), args.u32(1), args.u32(2), args.u32(3)[0] as usize, args.out_f32(0));
        let tokens = (u.tokens as usize).max(1);
        let mut listed = vec![false; u.groups as usize];
        list[..n].iter().step_by(tokens).for_each(|&row| listed[row as usize / tokens] = true);
        let [k_size, v_size] = [u.dk, u.dv].map(|c| tokens * words(c as usize));
        let product = ProductU::key_value(u.tokens, u.dk, u.dv);
        y.par_chunks_mut((u.dk as usize * u.dv as usize).max(1)).enumerate().for_each(|(i, y)| match listed[i] {
            true => Product::count(&product, &k[i * k_size..(i + 1) * k_size], &v[i * v_size..(i + 1) * v_size], y),
            false => y.fill(0.0),
        });
    }
    fn cases(&self) -> Vec<Case<KeyValueU>> {
        let mut g = Gen::new("active/key_value");
        let mut out = Vec::new();
        for (groups, tokens, dk, dv, open) in [
            (3, 5, 7, 9, [0, 2].as_slice()),
            (4, 64, 40, 70, &[1]),
            (2, 9, 32, 33, &[0, 1]),
            (2, 3, 4, 4, &[]),
            (0, 3, 4, 4, &[]),
        ] {
            let u = KeyValueU { groups, tokens, dk, dv };
            let rows = (groups * tokens) as usize;
            let mut list: Vec<u32> = open.iter().flat_map(|g| g * tokens..(g + 1) * tokens).collect();
            let count = Data::U32(vec![list.len() as u32]);
            list.resize(rows, SKIP);
            let inputs = vec![g.bits(rows, dk as usize, 0.4), g.bits(rows, dv as usize, 0.4), Data::U32(list), count];
            let name = format!("{open:?} of {groups} x [{tokens}, {dk}] and [{tokens}, {dv}]");
            out.push(Case::new(name, u, inputs, vec![(groups * dk * dv) as usize]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// x\[count, C\], plan ([`Plan`]), a\[C\], b\[C\], w\[1\], v0\[rows, C\] -> s bits\[T, rows, C\], v\[rows, C\].
///
/// As [`super::neuron::Forward`] where a row has a slot. Where that is [`IDLE`] the input is zero (the current is `b`), and where it is
/// [`SKIP`] there are no spikes and the membrane stays. At places that the plan does not list both outputs are zero. `store_v_seq` of
/// the uniform is not heard.
pub struct Fire {
    /// Charge function.
    pub kind: NeuronKind,
}

/// Neurons of places that are taken together.
const GROUP: usize = 256;

/// A step at which nothing arrives.
struct Idle {
    /// The current of each channel, what the norm makes of nothing.
    z: Vec<f32>,
    /// For each word of channels whether that current cannot lift any to the threshold from below.
    quiet: Vec<bool>,
    /// Without a norm.
    u: NeuronU,
}

impl Idle {
    fn new<M: Model>(u: &NeuronU, charging: Charging, a: &[f32], b: &[f32]) -> Self {
        let z: Vec<f32> = match u.affine {
            0 => vec![0.0; u.c as usize],
            _ => a.iter().zip(b).map(|(a, b)| a * 0.0 + b).collect(),
        };
        // A charge grows with the membrane, but for rounding.
        let is_quiet = |z: &f32| {
            let rounding = 1e-3 * (u.v_threshold.abs() + u.rest.abs() + z.abs());
            M::charge(u.v_threshold, *z, charging) + rounding < u.v_threshold
        };
        Idle { quiet: z.chunks(32).map(|z| z.iter().all(is_quiet)).collect(), z, u: NeuronU { affine: 0, ..*u } }
    }
    /// [`step_row`] of it.
    #[inline(always)]
    fn step<M: Model>(&self, v: &mut [f32], s: &mut [u32], charging: Charging) {
        let words = self.z.chunks(32).zip(v.chunks_mut(32)).zip(&self.quiet);
        for (((z, v), quiet), s) in words.zip(s.chunks_mut(1)) {
            if *quiet && v.iter().fold(true, |below, v| below & (*v < self.u.v_threshold)) {
                v.iter_mut().zip(z).for_each(|(v, z)| *v = M::charge(*v, *z, charging));
                s[0] = 0;
            } else {
                step_row::<M>(z, &[], &[], v, s, charging, &self.u);
            }
        }
    }
}

impl Fire {
    fn run<M: Model>(u: &NeuronU, args: &mut Args<'_>) {
        let (x, a, b, w, v0) = (args.f32(0), args.f32(2), args.f32(3), args.f32(4), args.f32(5));
        let (steps, rows, c) = (u.steps as usize, u.rows as usize, u.c as usize);
        let (nw, charging) = (words(c), u.charging(w));
        let (s, v_end) = (args.out_u32(0), args.out_f32(1));
        let Plan { places: all, slots } = Plan::of(args.u32(1), rows);
        if all.len() < rows {
            s.fill(0);
            v_end.fill(0.0);
        }
        let (s, v_end) = (Shared::new(s), Shared::new(v_end));
        let idle = Idle::new::<M>(u, charging, a, b);
        // Places that are taken together, where neighbours on the list are neighbours in x.
        let group = if c > 0 && c % 32 == 0 { (GROUP / c).max(1) } else { 1 };
        let [a_group, b_group] = [a, b].map(|p| p.repeat(group));
        let tile = u.tile().next_multiple_of(group);
        all.par_chunks(tile).enumerate().for_each(|(i, places)| {
            let at = |p: u32| p as usize * c..(p as usize + 1) * c;
            // From the start of a cache line, which no vector then straddles.
            let mut room = Vec::new();
            let v = lines(&mut room, places.len() * c);
            v.fill(u.rest);
            if u.has_v0 != 0 {
                places.iter().zip(v.chunks_exact_mut(c)).for_each(|(&p, v)| v.copy_from_slice(&v0[at(p)]));
            }
            simd(
                #[inline(always)]
                || {
                    let mut fired = [0; GROUP / 32];
                    for (k, (places, v)) in places.chunks(group).zip(v.chunks_mut(group * c)).enumerate() {
                        let after = all.get(i * tile + (k + 1) * group);
                        for t in 0..steps {
                            let slot = |p: u32| slots[t * rows + p as usize];
                            // What comes next at this step.
                            after.map(|&p| slot(p)).filter(|s| *s < IDLE).inspect(|&s| prefetch(x, at(s).start, v.len()));
                            // SAFETY: places are listed once.
                            let spikes = |p: u32| unsafe { s.slice((t * rows + p as usize) * nw, nw) };
                            let first = slot(places[0]);
                            if group > 1 && first < IDLE && places.iter().zip(first..).all(|(&p, s)| slot(p) == s) {
                                let (x, fired) = (&x[at(first).start..][..v.len()], &mut fired[..places.len() * nw]);
                                let affine = ..v.len() * usize::from(u.affine != 0);
                                step_row::<M>(x, &a_group[affine], &b_group[affine], v, fired, charging, u);
                                places
                                    .iter()
                                    .zip(fired.chunks_exact(nw))
                                    .for_each(|(&p, fired)| spikes(p).copy_from_slice(fired));
                                continue;
                            }
                            for (&p, v) in places.iter().zip(v.chunks_exact_mut(c)) {
                                match slot(p) {
                                    SKIP => spikes(p).fill(0),
                                    IDLE => idle.step::<M>(v, spikes(p), charging),
                                    slot => step_row::<M>(&x[at(slot)], a, b, v, spikes(p), charging, u),
                                }
                            }
                        }
                    }
                },
            );
            if u.store_v != 0 {
                // SAFETY: as above.
                places
                    .iter()
                    .zip(v.chunks_exact(c))
                    .for_each(|(&p, v)| unsafe { v_end.slice(at(p).start, c) }.copy_from_slice(v));
            }
        });
    }
}

impl Kernel for Fire {
    head!(
        "active/fire",
        NeuronU,
        [x: ReadF32, plan: ReadU32, a: ReadF32, b: ReadF32, w: ReadF32, v0: ReadF32, s: WriteU32, v: WriteF32]
    );
    fn variant(&self) -> String {
        self.kind.key().into()
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into())]
    }
    fn threads(&self, u: &NeuronU) -> usize {
        // One invocation a channel, rows padded to whole words.
        u.rows as usize * words(u.c as usize) * 32
    }
    fn counted(&self, u: &NeuronU) -> Option<Counted> {
        Some(Counted { input: 1, rows: 1, threads: words(u.c as usize) as u32 * 32 })
    }
    fn cleared(&self) -> bool {
        true
    }
    fn cpu(&self, u: &NeuronU, args: &mut Args<'_>) {
        with_model!(self.kind, M => Self::run::<M>(u, args));
    }
    fn cases(&self) -> Vec<Case<NeuronU>> {
        let mut g = Gen::new("active/fire");
        let mut out = Vec::new();
        let soft = Neuron { v_reset: None, decay_input: false, ..Neuron::default() };
        for n in [Neuron::default(), soft] {
            let n = Neuron { neuron: self.kind, v_threshold: 0.5, ..n };
            let sizes = [(4, 3, 32, 0.3), (5, 7, 41, 0.4), (1, 2, 1, 0.5), (3, 70, 100, 0.0), (6, 5, 65, 1.0)];
            // Places that are taken together at all steps, and in more than one tile; until the last open one; where none is idle.
            let sizes = sizes.into_iter().chain([(3, 71, 64, 1.0), (3, 23, 64, 0.7), (4, 18, 32, 0.9)]);
            for (steps, rows, c, open) in sizes {
                let mut u = NeuronU::new(&n, steps, rows, c);
                let on = rows % 2 == 1;
                [u.affine, u.has_v0, u.store_v] = [u32::from(on); 3];
                let len = |n: usize| if on { n } else { 0 };
                let ([plan, ..], count) = listed(&mut g, steps as u32, rows as u32, open, steps as u32 % 3);
                let inputs = vec![
                    g.dyadic(count * c),
                    plan,
                    g.dyadic(len(c)),
                    g.dyadic(len(c)),
                    Data::F32(vec![-0.3; usize::from(self.kind.learns_tau())]),
                    g.dyadic(len(rows * c)),
                ];
                let outputs = vec![steps * rows * words(c), len(rows * c)];
                let case = Case::new(format!("{count} of [{steps}, {rows}, {c}]"), u, inputs, outputs);
                out.push(if self.kind.learns_tau() { case } else { case.exact() });
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    let mut v: Vec<Box<dyn AnyKernel>> =
        vec![Box::new(List), Box::new(Alike), Box::new(Spread), Box::new(Linear), Box::new(KeyValue), Box::new(Query)];
    v.extend(NeuronKind::ALL.iter().map(|&kind| Box::new(Fire { kind }) as Box<dyn AnyKernel>));
    v
}

#[cfg(test)]
mod tests {
    use super::super::matmul::{Bits, BitsU};
    use super::*;

    /// A listed row is the row of the whole product to the bit, whatever the weights, however full, and however many are listed.
    #[test]
    fn rows_of_the_whole() {
        let mut g = Gen::new("rows_of_the_whole");
        // Blocks that end with a row by itself, runs that gemm would cut by the number of rows, few columns.
        let sizes = [
            (96, 200, 70, vec![0, 1, 2, 16, 17, 33, 80, 96]),
            (385, 1024, 70, vec![1, 2, 40, 385]),
            (256, 768, 64, vec![1, 40, 65]),
        ];
        let ways = [(1, 0.1), (1, 0.6), (3, 0.05), (3, 0.4)];
        for ((rows, cin, cout, counts), (planes, rate)) in sizes.iter().flat_map(|s| ways.map(|w| (s.clone(), w))) {
            let x = g.bits((planes * rows) as usize, cin as usize, rate);
            let (Data::F32(w), Data::F32(b)) = (g.f32s((cin * cout) as usize), g.f32s(cout as usize)) else { unreachable!() };
            let (bits, floats) = (x.words(), [&w[..], &b[..]].map(bytemuck::cast_slice));
            let mut want = vec![0u32; (rows * cout) as usize];
            let u = BitsU { rows, planes, cin, cout, has_bias: 1, splits: 1 };
            Kernel::cpu(&Bits, &u, &mut Args::new(vec![bits, floats[0], floats[1]], vec![&mut want]));
            for n in counts {
                let list: Vec<u32> = (rows - n..rows).collect();
                let mut got = vec![0u32; (n * cout) as usize];
                let u = LinearU { rows, planes, cin, cout, has_bias: 1 };
                Kernel::cpu(&Linear, &u, &mut Args::new(vec![bits, &list, &[n], floats[0], floats[1]], vec![&mut got]));
                assert_eq!(got, want[((rows - n) * cout) as usize..], "{n} rows, {planes} planes at {rate}");
            }
        }
    }
}
