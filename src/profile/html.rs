//! The report as one page that needs nothing else: styles and pictures are in it.

use super::draw::{Bar, COLUMNS, EXPERTS, Overlay, PARTS, RASTER, bars, data_uri, grid, map, raster, steps_a_cell};
use super::modules::{HOW, Operation, Profile};
use super::report::{count, joules, percent, share};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use image::RgbImage;
use std::fmt::Write;

/// One clip, for the pictures.
pub struct Clip {
    /// Its recording.
    pub name: String,
    /// What it is, and what the network took it for: a sentence.
    pub taken: String,
    /// Events added up over steps and polarities, `[height, width]`.
    pub events: Vec<f32>,
    /// Height, width.
    pub size: [usize; 2],
    /// Spikes `[T, 1, .., C]` of each neuron layer.
    pub neurons: Vec<(String, Tensor)>,
    /// Gates `[T, 1, N.., experts]` of each router.
    pub gates: Vec<(String, Tensor)>,
}

/// What stands in the page.
pub struct Page<'a> {
    /// Name of the run.
    pub title: &'a str,
    /// The line below it.
    pub subtitle: &'a str,
    /// Right answers over samples.
    pub accuracy: f64,
    /// Names of the classes.
    pub classes: &'a [String],
    /// `confusion[label][answer]`.
    pub confusion: &'a [Vec<u64>],
    /// The numbers.
    pub profile: &'a Profile,
    /// The clip that is drawn.
    pub clip: &'a Clip,
    /// The command that made the page.
    pub command: &'a str,
}

const STYLE: &str = "\
:root{color-scheme:light}*{box-sizing:border-box}\
body{font:15px/1.5 system-ui,sans-serif;color:#22262e;background:#fff;margin:0 auto;max-width:1080px;padding:24px 20px 64px}\
h1{font-size:26px;margin:0}h2{font-size:19px;margin:40px 0 6px;border-top:1px solid #dee1e6;padding-top:18px}\
h3{font-size:15px;margin:20px 0 4px}p{margin:4px 0 12px;max-width:76ch}small,.note{color:#5b6270;font-size:13px}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:10px;margin:18px 0}\
.tile{background:#f4f6f8;border-radius:6px;padding:10px 12px}.tile b{display:block;font-size:20px;font-weight:600}\
.wide{overflow-x:auto}svg{display:block;max-width:100%;height:auto}\
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:8px 0 16px}\
th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #edeff2;white-space:nowrap}th{font-weight:600;vertical-align:bottom}\
th{white-space:normal}th:first-child,td:first-child,th.say{text-align:left}td.say{white-space:normal;text-align:left;min-width:22em}\
.tight table{font-size:12px}.tight td,.tight th{padding:2px 5px}\
.row{display:flex;flex-wrap:wrap;gap:18px;align-items:flex-start}figure{margin:0}figcaption{font-size:12px;color:#5b6270;max-width:216px}\
figure img{display:block;border:1px solid #dee1e6;image-rendering:pixelated}\
.key{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 12px;vertical-align:-1px}\
dl{max-width:84ch}dt{font-weight:600;margin-top:8px}dd{margin:0}code{font-size:13px}\
.confusion td,.confusion th{text-align:center}.confusion td:first-child{text-align:right}";

/// Text that is safe between tags and in attributes.
fn escape(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn seconds(s: f64) -> String {
    match s {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", 1e3 * s),
        s => format!("{:.1} us", 1e6 * s),
    }
}

/// Whether a cell holds a sentence.
fn is_long(c: &str) -> bool {
    c.chars().count() > 60
}

/// A table; the first column is text.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let class = |long: bool| if long { " class=say" } else { "" };
    let long = |i: usize| rows.iter().any(|r| r.get(i).is_some_and(|c| is_long(c)));
    let head: String = head.iter().enumerate().map(|(i, h)| format!("<th{}>{}</th>", class(long(i)), escape(h))).collect();
    let cell = |c: &String| format!("<td{}>{}</td>", class(is_long(c)), escape(c));
    let body: String = rows.iter().map(|r| format!("<tr>{}</tr>", r.iter().map(cell).collect::<String>())).collect();
    format!("<div class=wide><table><tr>{head}</tr>{body}</table></div>\n")
}

fn key(items: &[(&str, String)]) -> String {
    let item = |(name, colour): &(&str, String)| format!("<span class=key style=\"background:{colour}\"></span>{}", escape(name));
    format!("<p class=note>{}</p>\n", items.iter().map(item).collect::<String>())
}

fn figure(picture: &str, caption: &str) -> String {
    format!("<figure>{picture}<figcaption>{}</figcaption></figure>\n", escape(caption))
}

/// [`figure`] of pixels.
fn photo(image: &RgbImage, caption: &str) -> Result<String> {
    Ok(figure(&format!("<img src=\"{}\" alt=\"{}\">", data_uri(image)?, escape(caption)), caption))
}

/// Operations of the same module added up: name and numbers, modules for which `f` is nothing left out.
fn by_module(modules: &[Operation], f: impl Fn(&Operation) -> Vec<f64>) -> Vec<(String, Vec<f64>)> {
    let mut out: Vec<(String, Vec<f64>)> = Vec::new();
    for m in modules {
        let v = f(m);
        match out.iter_mut().find(|o| o.0 == m.name) {
            Some(o) => o.1.iter_mut().zip(v).for_each(|(a, b)| *a += b),
            None => out.push((m.name.clone(), v)),
        }
    }
    out.retain(|o| o.1.iter().any(|v| *v > 0.0));
    out
}

/// The page.
///
/// # Errors
/// A picture that cannot be drawn, or spikes that cannot be read back.
pub fn page(p: &Page<'_>) -> Result<String> {
    let sections = [summary(p), rates(p)?, clip(p)?, routers(p)?, operations(p)?, energy(p)?, time(p)?, accuracy(p), how(p)];
    let title = escape(p.title);
    Ok(format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}: spikemix profile</title><style>{STYLE}</style></head><body>\n{}</body></html>\n",
        sections.concat()
    ))
}

fn summary(p: &Page<'_>) -> String {
    let a = &p.profile.activity;
    let mut tiles = vec![
        ("accuracy", percent(p.accuracy)),
        ("firing rate", percent(a.firing_rate)),
        ("additions a sample", count(a.effective_acs)),
        ("multiply-adds a sample", count(a.effective_macs)),
        ("dense multiply-adds", count(a.dense_macs)),
        (a.energy_convention, joules(a.energy_pj)),
        ("time a sample", seconds(p.profile.seconds_per_sample)),
    ];
    if let Some(r) = a.router_firing_rate {
        tiles.insert(2, ("open gates", percent(r)));
    }
    let tiles: String = tiles.iter().map(|(k, v)| format!("<div class=tile><b>{}</b>{}</div>", escape(v), escape(k))).collect();
    format!("<h1>{}</h1>\n<p class=note>{}</p>\n<div class=tiles>{tiles}</div>\n", escape(p.title), escape(p.subtitle))
}

/// Means of `per` values each.
fn means(values: &[f64], per: usize) -> Vec<f64> {
    values.chunks(per).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect()
}

fn columns_are(per: usize) -> String {
    if per == 1 {
        "Columns are steps".into()
    } else {
        format!("A column is the mean of {per} steps, numbered by the first of them")
    }
}

fn rates(p: &Page<'_>) -> Result<String> {
    let neurons = &p.profile.neurons;
    let list: Vec<Bar> = neurons
        .iter()
        .map(|l| Bar {
            label: l.name.clone(),
            parts: vec![l.firing_rate.mean],
            whisker: Some((l.firing_rate.sample_min, l.firing_rate.sample_max)),
            value: percent(l.firing_rate.mean),
        })
        .collect();
    let per = steps_a_cell(p.profile.steps, COLUMNS[0]);
    let steps: Vec<(String, Vec<f64>)> = neurons.iter().map(|l| (l.name.clone(), means(&l.rate_by_step, per))).collect();
    let top = steps.iter().flat_map(|s| &s.1).copied().fold(0.0, f64::max);
    let rows = neurons.iter().map(|l| {
        let r = l.firing_rate;
        vec![
            l.name.clone(),
            percent(r.mean),
            format!("{} to {}", percent(r.sample_min), percent(r.sample_max)),
            format!("{} to {}", percent(r.step_min), percent(r.step_max)),
            l.neurons.to_string(),
            format!("{} ({})", l.silent_neurons, share(l.silent_neurons as f64 / l.neurons.max(1) as f64)),
            l.saturated_neurons.to_string(),
            count(l.spikes_out),
        ]
    });
    let mut s = String::from(
        "<h2>Firing rates by layer</h2>\n<p>Spikes a neuron and step. The line over a bar reaches from the calmest to the busiest sample.</p>\n",
    );
    let _ = writeln!(s, "<div class=wide>{}</div>", bars(&list, &PARTS[1..2], |v| format!("{}%", (1e8 * v).round() / 1e6))?);
    let _ = writeln!(
        s,
        "<h3>By step</h3>\n<p>{}; white is 0, full blue {}.</p>\n<div class=wide>{}</div>",
        columns_are(per),
        percent(top),
        grid(&steps, top, false, per)?
    );
    s += &table(&["layer", "rate", "over samples", "over steps", "neurons", "silent", "saturated", "spikes a sample"], rows);
    Ok(s)
}

/// The first and the last layer of neurons, that nearest to the middle which fired at all, and the router between.
fn shown(neurons: &[(String, Tensor)]) -> Result<Vec<usize>> {
    let n = neurons.len();
    let router = neurons.iter().position(|l| l.0.contains("router"));
    let mut by_distance: Vec<usize> = (0..n).collect();
    by_distance.sort_by_key(|i| i.abs_diff(n / 2));
    let mut middle = None;
    for i in by_distance {
        if neurons[i].1.to_vec()?.iter().any(|s| *s > 0.0) {
            middle = Some(i);
            break;
        }
    }
    let mut at: Vec<usize> = [Some(0), router, middle, n.checked_sub(1)].into_iter().flatten().filter(|&i| i < n).collect();
    at.sort_unstable();
    at.dedup();
    Ok(at)
}

/// The most neurons drawn of a layer.
const ROWS: usize = 160;

fn clip(p: &Page<'_>) -> Result<String> {
    let c = p.clip;
    let length = c.neurons.first().and_then(|l| l.1.shape().first()).copied().unwrap_or(0);
    let per = steps_a_cell(length, RASTER);
    let columns = match per {
        1 => "each column a step, dark where it fired".to_string(),
        n => format!("each column {n} steps, dark where it fired in any of them"),
    };
    let mut s = format!(
        "<h2>One clip: {}</h2>\n<p>{} Each row is a neuron, numbered by its place in \
         [H, W, C], {columns}. Only neurons that fired in this clip are drawn, at even distances where they are more than {ROWS}.</p>\n<div class=row>\n",
        escape(&c.name),
        escape(&c.taken)
    );
    for i in shown(&c.neurons)? {
        let (name, spikes) = &c.neurons[i];
        let (v, steps) = (spikes.to_vec()?, spikes.shape().first().copied().unwrap_or(0));
        let all = v.len().checked_div(steps).unwrap_or(0);
        let fired = |t: usize, n: usize| v.get(t * all + n).is_some_and(|s| *s > 0.0);
        let active: Vec<usize> = (0..all).filter(|&n| (0..steps).any(|t| fired(t, n))).collect();
        let rows = active.len().min(ROWS);
        let drawn: Vec<usize> = (0..rows).map(|n| active[n * active.len() / rows]).collect();
        let within = |t: usize| t * per..((t + 1) * per).min(steps);
        let picture = raster(steps.div_ceil(per), per, &drawn, |t, n| within(t).any(|t| fired(t, drawn[n])))?;
        let rate = v.iter().filter(|s| **s > 0.0).count() as f64 / v.len().max(1) as f64;
        let caption = format!("{name}: {rows} of the {} that fired of {all} neurons, rate {}", active.len(), percent(rate));
        s += &figure(&picture, &caption);
    }
    s += "</div>\n";
    Ok(s)
}

fn routers(p: &Page<'_>) -> Result<String> {
    let list = &p.profile.routers_by_step;
    if list.is_empty() {
        return Ok("<h2>Routers</h2>\n<p>This network has no spiking routers.</p>\n".into());
    }
    let per = steps_a_cell(p.profile.steps, COLUMNS[1]);
    let mut s = format!(
        "<h2>Routers</h2>\n<p>Share of open gates in per cent, by expert (rows), over all samples and tokens. {}.</p>\n",
        columns_are(per)
    );
    for r in list {
        let experts = r.all.expert_rates.len();
        let rows: Vec<(String, Vec<f64>)> = (0..experts)
            .map(|i| {
                let rates: Vec<f64> = r.steps.iter().map(|t| t.expert_rates.get(i).copied().unwrap_or(0.0)).collect();
                (format!("expert {i}"), means(&rates, per))
            })
            .collect();
        let _ = writeln!(s, "<h3>{}</h3>\n<div class=wide>{}</div>", escape(&r.all.name), grid(&rows, 1.0, true, per)?);
        let line = |name: String, r: &super::report::RouterRate| {
            vec![
                name,
                percent(r.router_firing_rate),
                format!("{:.2} of {experts}", r.experts_active_per_token),
                r.entropy(),
                share(r.expert_silence_fraction),
            ]
        };
        let lines = std::iter::once(line("all steps".into(), &r.all));
        // A table of long clips would be the longest thing on the page; `--json` has each step.
        let each = if per == 1 { &r.steps[..] } else { &[] };
        let lines = lines.chain(each.iter().enumerate().map(|(t, r)| line(format!("step {t}"), r)));
        s += &table(
            &["", "router_firing_rate", "experts_active_per_token", "expert_load_entropy", "expert_silence_fraction"],
            lines,
        );
    }
    let c = p.clip;
    let _ = writeln!(
        s,
        "<h3>Where experts are open</h3>\n<p>The clip above: its events in grey, and over each token the share of steps in which the \
         expert's gate was open. No colour: never open; full colour: the largest share of the router.</p>\n<div class=row>{}</div>",
        photo(&map(&c.events, c.size, None), "all events")?
    );
    for (name, gates) in &c.gates {
        let &[steps, 1, rows, columns, m] = gates.shape() else {
            return Err(Error::shape(
                "report",
                format!("gates of {name} are {:?}, expected [T, 1, H, W, experts]", gates.shape()),
            ));
        };
        let v = gates.to_vec()?;
        let share = |i: usize, n: usize| {
            (0..steps).map(|t| f64::from(v[(t * rows * columns + n) * m + i])).sum::<f64>() / steps.max(1) as f64
        };
        let shares: Vec<Vec<f64>> = (0..m).map(|i| (0..rows * columns).map(|n| share(i, n)).collect()).collect();
        let full = shares.iter().flatten().copied().fold(0.0, f64::max);
        let name = escape(name);
        let _ =
            writeln!(s, "<p class=note>{name}: {rows} x {columns} tokens, full colour {}</p>\n<div class=row>", percent(full));
        for (i, values) in shares.iter().enumerate() {
            let over = Overlay { values, grid: [rows, columns], full, colour: EXPERTS[i % EXPERTS.len()] };
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            s += &photo(&map(&c.events, c.size, Some(&over)), &format!("expert {i}: open {}", percent(mean)))?;
        }
        s += "</div>\n";
    }
    Ok(s)
}

fn operations(p: &Page<'_>) -> Result<String> {
    let q = p.profile;
    let blank = |v: f64| if v == 0.0 { String::new() } else { count(v) };
    let rows = q.modules.iter().map(|m| {
        let mut row = vec![m.name.clone(), m.op.clone()];
        row.extend(
            [
                m.spikes_in,
                m.spikes_out,
                m.effective_macs,
                m.effective_acs,
                m.integer_acs,
                m.attention_acs,
                m.dense_macs,
                m.neuron_updates,
                m.skipped_sops,
                m.gated_sops,
                m.bytes_moved,
            ]
            .map(blank),
        );
        row.push(seconds(m.seconds));
        row
    });
    let head = [
        "module",
        "operation",
        "spikes in",
        "spikes out",
        "MAC",
        "AC",
        "integer AC",
        "attention AC",
        "dense",
        "updates",
        "skipped",
        "gated",
        "bytes",
        "time",
    ];
    Ok(format!(
        "<h2>Operations by module</h2>\n<p>Means a sample. Of {} additions {} are by integer spikes and {} are products of attention. \
         Additions skipped behind closed gates: {} ({:.3} ms a sample, {:.3} ms with nothing skipped); {} operations more met a closed gate and \
         were done.</p>\n<div class=tight>{}</div>",
        count(q.activity.effective_acs),
        count(q.integer_acs),
        count(q.attention_acs),
        count(q.activity.skipped_sops),
        1e3 * q.seconds_per_sample,
        1e3 * q.seconds_unskipped,
        count(q.gated_sops),
        table(&head, rows)
    ))
}

fn energy(p: &Page<'_>) -> Result<String> {
    let q = p.profile;
    let list: Vec<Bar> = by_module(&q.modules, |m| m.energy_parts_pj.to_vec())
        .into_iter()
        .map(|(label, parts)| Bar { label, value: joules(parts.iter().sum()), parts, whisker: None })
        .collect();
    let colour = |i: usize| format!("rgb({},{},{})", PARTS[i].0, PARTS[i].1, PARTS[i].2);
    let mut s = format!("<h2>Energy by module, {}</h2>\n", escape(q.convention));
    let about = q.energy.iter().find(|e| e.convention == q.convention).map_or("", |e| e.about);
    let _ = writeln!(s, "<p>{}. A sample; a convention, not a measurement.</p>", escape(about));
    s += &key(&[("multiply-adds", colour(0)), ("additions", colour(1)), ("bytes moved", colour(2))]);
    let _ = writeln!(s, "<div class=wide>{}</div>", bars(&list, &PARTS, joules)?);
    s += "<h3>By every convention</h3>\n";
    let line = |e: &super::modules::Energy| {
        vec![e.convention.to_string(), joules(e.energy_pj), count(e.macs), count(e.acs), joules(e.memory_pj), e.about.to_string()]
    };
    s += &table(&["convention", "energy", "MAC", "AC", "of it memory", "formula and source"], q.energy.iter().map(line));
    s += "<h3>Against an int8 dense network of the same shape</h3>\n<p>Additions a synapse and step at which both cost the same. Above \
          100% binary spikes are cheaper at every rate.</p>\n";
    let line = |b: &super::energy::BreakEven| {
        vec![
            b.convention.to_string(),
            b.runs(q.steps).into(),
            joules(b.spiking_pj),
            joules(b.dense_int8_pj),
            percent(b.activity),
            b.break_even_activity.map_or("never".into(), percent),
        ]
    };
    let head = ["spiking network by", "dense network runs", "spiking", "dense int8", "activity", "break-even activity"];
    s += &table(&head, q.break_even.iter().map(line));
    let n = &q.neurobench;
    let o = n.synaptic_operations;
    s += "<h3>NeuroBench</h3>\n";
    s += &table(
        &["metric", "value", "divided by"],
        [
            ["Footprint", &format!("{} bytes", n.footprint), "nothing"],
            ["ConnectionSparsity", &format!("{:.4}", n.connection_sparsity), "weights of layers and convolutions"],
            ["ActivationSparsity", &format!("{:.4}", n.activation_sparsity), "neurons x steps x samples"],
            ["SynapticOperations Effective_MACs", &count(o.effective_macs), "samples"],
            ["SynapticOperations Effective_ACs", &count(o.effective_acs), "samples"],
            ["SynapticOperations Dense", &count(o.dense), "samples"],
            ["MembraneUpdates", &count(n.membrane_updates), "samples"],
        ]
        .map(|r| r.map(String::from).to_vec()),
    );
    Ok(s)
}

fn time(p: &Page<'_>) -> Result<String> {
    let list: Vec<Bar> = by_module(&p.profile.modules, |m| vec![m.seconds])
        .into_iter()
        .map(|(label, parts)| Bar { label, value: seconds(parts.iter().sum()), parts, whisker: None })
        .collect();
    let total: f64 = p.profile.kernels.iter().map(|k| k.seconds).sum();
    let rows = p.profile.kernels.iter().map(|k| {
        vec![
            k.kernel.clone(),
            format!("{:.0}", k.launches),
            seconds(k.seconds),
            percent(k.seconds / total.max(f64::MIN_POSITIVE)),
        ]
    });
    Ok(format!(
        "<h2>Time by module and by kernel</h2>\n<p>Wall time a sample: {} for a whole pass. By module with each operation waited for.</p>\n<div class=wide>{}</div>\n{}",
        seconds(p.profile.seconds_per_sample),
        bars(&list, &PARTS[1..2], seconds)?,
        table(&["kernel", "launches a batch", "time a sample", "share"], rows)
    ))
}

fn accuracy(p: &Page<'_>) -> String {
    // Where steps are told apart they are what is scored.
    let scored: u64 = p.confusion.iter().flatten().sum();
    let what = if scored == p.profile.activity.samples_counted { "samples" } else { "labelled steps" };
    let mut s = format!(
        "<h2>Accuracy and confusion</h2>\n<p>{} of {scored} {what} right. Rows: what it is; columns: what the network says.</p>\n\
         <div class=wide><table class=confusion><tr><th></th>",
        percent(p.accuracy),
    );
    p.classes.iter().for_each(|c| s += &format!("<th>{}</th>", escape(c)));
    s += "</tr>\n";
    for (i, (name, row)) in p.classes.iter().zip(p.confusion).enumerate() {
        let all: u64 = row.iter().sum();
        let _ = write!(s, "<tr><td>{}</td>", escape(name));
        for (j, n) in row.iter().enumerate() {
            let share = *n as f64 / all.max(1) as f64;
            let colour = if i == j { "49,107,178" } else { "196,78,82" };
            let text = if share > 0.6 { "#fff" } else { "inherit" };
            let label = if *n == 0 { String::new() } else { n.to_string() };
            let _ = write!(s, "<td style=\"background:rgba({colour},{share:.3});color:{text}\">{label}</td>");
        }
        s += "</tr>\n";
    }
    s + "</table></div>\n"
}

fn how(p: &Page<'_>) -> String {
    let items: String = HOW.iter().map(|(k, v)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(k), escape(v))).collect();
    format!("<h2>How each number was counted</h2>\n<dl>{items}</dl>\n<p class=note><code>{}</code></p>\n", escape(p.command))
}
