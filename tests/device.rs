//! The device itself: buffers, errors, profile.

use libtest_mimic::{Failed, Trial};
use spikemix::device::{Device, Storage, adapters};
use spikemix::kernel::active::{Linear, LinearU};
use spikemix::kernel::elementwise::{Add, AddU};

/// The trials of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("device::every adapter has a row", || {
            let rows = adapters();
            if rows.iter().enumerate().all(|(i, r)| r.index == i && !r.name.is_empty()) { Ok(()) } else { Err("rows".into()) }
        }),
        Trial::test("device::names", names),
        crate::gpu::trial("device::chains of launches and reuse of buffers", chain),
        crate::gpu::trial("device::uploads do not disturb queued launches", uploads),
        crate::gpu::trial("device::two threads", threads),
        crate::gpu::trial("device::errors are errors", errors),
        crate::gpu::trial("device::profile", profile),
        crate::gpu::trial("device::counted launches", |_| counted()),
    ]
}

fn check(ok: bool, message: impl Into<String>) -> Result<(), Failed> {
    if ok { Ok(()) } else { Err(message.into().into()) }
}

fn floats(d: &Device, v: &[f32]) -> spikemix::Result<Storage> {
    d.upload(bytemuck::cast_slice(v))
}

fn add(d: &Device, a: &Storage, b: &Storage) -> spikemix::Result<Storage> {
    let n = a.len();
    Ok(d.launch(&Add, &AddU { n: n as u32 }, &[a, b], &[n])?.remove(0))
}

fn values(d: &Device, s: &Storage) -> spikemix::Result<Vec<f32>> {
    Ok(d.read(s)?.into_iter().map(f32::from_bits).collect())
}

fn names() -> Result<(), Failed> {
    check(Device::open("cpu").is_ok(), "cpu")?;
    let wrong = Device::open("tpu").err().ok_or("tpu opened")?;
    check(wrong.exit_status() == 2, "a wrong name is wrong usage")?;
    let far = Device::open("gpu:9999").err().ok_or("adapter 9999 opened")?;
    check(far.to_string().contains("9999"), far.to_string())
}

fn chain(d: &Device) -> Result<(), Failed> {
    // Doubling twenty times, again and again: many launches in a submission and many submissions, each buffer soon reused.
    for n in [0, 1, 255, 256, 5000] {
        let one = floats(d, &vec![1.0; n])?;
        for _ in 0..10 {
            let mut x = one.clone();
            for _ in 0..20 {
                x = add(d, &x, &x)?;
            }
            check(values(d, &x)? == vec![1_048_576.0; n], format!("wrong at length {n}"))?;
        }
    }
    Ok(())
}

fn uploads(d: &Device) -> Result<(), Failed> {
    let n = 1000;
    let zero = floats(d, &vec![0.0; n])?;
    let mut results = Vec::new();
    for i in 0..200 {
        // The upload's buffer is free again as soon as the launch is queued, but must not be overwritten before it has run.
        let x = floats(d, &vec![i as f32; n])?;
        results.push(add(d, &x, &zero)?);
    }
    for (i, r) in results.iter().enumerate() {
        check(values(d, r)? == vec![i as f32; n], format!("upload {i} was overwritten"))?;
    }
    Ok(())
}

fn threads(d: &Device) -> Result<(), Failed> {
    let worker = |k: f32| -> spikemix::Result<bool> {
        let mut x = floats(d, &[k; 300])?;
        for _ in 0..100 {
            x = add(d, &x, &floats(d, &[1.0; 300])?)?;
        }
        Ok(values(d, &x)? == vec![k + 100.0; 300])
    };
    std::thread::scope(|s| {
        let handles: Vec<_> = (0..3).map(|i| s.spawn(move || worker(i as f32))).collect();
        handles.into_iter().try_for_each(|h| check(h.join().map_err(|_| "a thread panicked")??, "wrong sums"))
    })
}

fn errors(d: &Device) -> Result<(), Failed> {
    let a = floats(d, &[1.0])?;
    let few = d.launch(&Add, &AddU { n: 1 }, &[&a], &[1]);
    check(few.is_err_and(|e| e.to_string().contains("elementwise/add")), "too few inputs")?;
    let foreign = Device::Cpu.upload(&[0])?;
    check(add(d, &foreign, &foreign).is_err(), "a buffer in memory was taken")?;
    check(Device::Cpu.read(&a).is_err(), "a GPU buffer was read by the CPU")?;
    let huge = d.launch(&Add, &AddU { n: 1 }, &[&a, &a], &[1 << 40]);
    let message = huge.err().ok_or("a buffer of 4 TiB was made")?.to_string();
    check(message.contains("elementwise/add") && message.contains("smaller batch"), message)?;
    // The device is as good as before.
    check(values(d, &add(d, &a, &a)?)? == [2.0], "the device no longer works")
}

fn profile(d: &Device) -> Result<(), Failed> {
    let Device::Gpu(g) = d else { return Err("no GPU".into()) };
    let x = floats(d, &[1.0; 70_000])?;
    let before = g.launches();
    g.profile(true);
    for _ in 0..100 {
        add(d, &x, &x)?;
    }
    g.profile(false);
    let rows = g.take_profile()?;
    check(g.launches() >= before + 100, "launches are not counted")?;
    // Other tests run beside this one on the same device.
    let row = rows.iter().find(|r| r.0 == "elementwise/add").ok_or("no row")?;
    check(row.1 >= 100 && row.2 > 0.0 && row.2 < 60.0, format!("{row:?}"))
}

/// Rows are dispatched as counted on the device, and the grid of a count is made once.
fn counted() -> Result<(), Failed> {
    let d = &crate::gpu::open()?;
    let (rows, cin, cout) = (300, 32, 70);
    let x = d.upload(&vec![1; rows])?;
    let [w, bias] = [floats(d, &vec![0.5; cin * cout])?, floats(d, &[])?];
    let u = LinearU { rows: rows as u32, planes: 1, cin: cin as u32, cout: cout as u32, has_bias: 0 };
    for n in [0u32, 1, 64, 65, 300] {
        let list = d.upload(&(0..rows as u32).collect::<Vec<_>>())?;
        let count = d.upload(&[n])?;
        let before = d.launches();
        for _ in 0..2 {
            let y = d.launch(&Linear, &u, &[&x, &list, &count, &w, &bias], &[rows * cout])?.remove(0);
            check(values(d, &y)?[..n as usize * cout].iter().all(|v| *v == 0.5), format!("wrong at {n} rows"))?;
        }
        check(d.launches() - before == 3, format!("{} launches for two products and one grid", d.launches() - before))?;
    }
    Ok(())
}
