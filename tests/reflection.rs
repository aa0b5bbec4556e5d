//! What a shader declares against what its Rust side says, without any adapter.

use libtest_mimic::{Failed, Trial};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Scalar, ScalarKind, StorageAccess, TypeInner};
use spikemix::kernel::{Access, AnyKernel};
use spikemix::registry;
use std::collections::BTreeSet;
use std::path::Path;

/// One trial for each kernel, and one for the shaders folder.
pub fn trials() -> Vec<Trial> {
    let kernels = registry::kernels().into_iter();
    kernels
        .map(|k| Trial::test(format!("reflection::{}", k.label()), move || reflect(k.as_ref())))
        .chain([Trial::test("reflection::the registry lists the shaders folder", stems)])
        .collect()
}

fn ensure(ok: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if ok { Ok(()) } else { Err(message().into()) }
}

fn reflect(k: &dyn AnyKernel) -> Result<(), Failed> {
    let source = k.source();
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    Validator::new(ValidationFlags::all(), Capabilities::default()).validate(&module).map_err(|e| e.emit_to_string(&source))?;

    let two_stages: BTreeSet<_> = k.cases().iter().map(|c| k.finish(&c.uniform).is_some()).collect();
    ensure(two_stages.len() == 1, || "a kernel has a second stage always or never".into())?;
    let two_stages = two_stages.contains(&true);
    let names: Vec<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
    let wanted: &[&str] = if two_stages { &["main", "finish"] } else { &["main"] };
    ensure(names == wanted, || format!("the entry points are {names:?}"))?;
    for entry in &module.entry_points {
        let n = invocations(&module, entry, k)?;
        ensure(n == k.workgroup(), || format!("{}: {n} invocations a workgroup, {} in Rust", entry.name, k.workgroup()))?;
    }

    let named: BTreeSet<_> = module.overrides.iter().filter_map(|o| o.1.name.as_deref()).collect();
    for (name, _) in k.overrides() {
        ensure(named.contains(name), || format!("the shader has no override {name}"))?;
    }

    let mut bound = Vec::new();
    for (_, var) in module.global_variables.iter() {
        if let Some(at) = var.binding {
            ensure(at.group == 0, || format!("{:?} is not in group 0", var.name))?;
            bound.push((at.binding, var));
        }
    }
    bound.sort_by_key(|b| b.0);
    let scratch = if two_stages { bound.pop() } else { None };
    if let Some((_, var)) = scratch {
        let written =
            matches!(var.space, AddressSpace::Storage { access } if access == StorageAccess::LOAD | StorageAccess::STORE);
        ensure(var.name.as_deref() == Some("scratch") && written, || "the last binding is not the scratch".into())?;
    }
    let expected = k.bindings();
    ensure(bound.len() == expected.len() + 1, || {
        format!("{} bindings, {} and the uniform in Rust", bound.len(), expected.len())
    })?;
    ensure(bound.iter().enumerate().all(|(i, b)| b.0 == i as u32), || "the bindings leave out a number".into())?;
    let inputs_first = expected.windows(2).all(|w| !w[0].1.is_output() || w[1].1.is_output());
    ensure(inputs_first, || "an input is bound after an output".into())?;

    let uniform = bound[0].1;
    ensure(uniform.space == AddressSpace::Uniform, || "binding 0 is not the uniform".into())?;
    let TypeInner::Struct { members, span } = &module.types[uniform.ty].inner else {
        return Err("the uniform is not a struct".into());
    };
    let shader: Vec<_> = members.iter().map(|m| (m.name.as_deref().unwrap_or(""), scalar(&module.types[m.ty].inner))).collect();
    let rust: Vec<_> = k.fields().iter().map(|f| (f.0, Some(f.1))).collect();
    ensure(shader == rust, || format!("the uniform is {shader:?}, in Rust {rust:?}"))?;
    let offsets = members.iter().enumerate().all(|(i, m)| m.offset == 4 * i as u32);
    ensure(*span <= 256, || "the uniform does not fit the 256 bytes that a launch has".into())?;
    ensure(offsets && *span == 4 * members.len() as u32, || "the uniform is not packed as in Rust".into())?;

    for ((_, var), (name, access)) in bound[1..].iter().zip(expected) {
        ensure(var.name.as_deref() == Some(*name), || format!("{:?} is bound where Rust has {name}", var.name))?;
        let AddressSpace::Storage { access: given } = var.space else {
            return Err(format!("{name} is not a storage buffer").into());
        };
        let wanted = if access.is_output() { StorageAccess::LOAD | StorageAccess::STORE } else { StorageAccess::LOAD };
        ensure(given == wanted, || format!("{name} is {given:?} in the shader and {access:?} in Rust"))?;
        let TypeInner::Array { base, .. } = module.types[var.ty].inner else {
            return Err(format!("{name} is not an array").into());
        };
        let element = element(&module.types[base].inner);
        let wanted = if matches!(access, Access::ReadF32 | Access::WriteF32) { "f32" } else { "u32" };
        ensure(element == Some(wanted), || format!("{name} holds {element:?} in the shader and {wanted} in Rust"))?;
    }
    Ok(())
}

/// The invocations of a workgroup, with overrides as in Rust.
fn invocations(module: &naga::Module, entry: &naga::EntryPoint, k: &dyn AnyKernel) -> Result<u32, Failed> {
    let Some(sizes) = entry.workgroup_size_overrides else {
        return Ok(entry.workgroup_size.iter().product());
    };
    let mut product = 1;
    for (size, expression) in entry.workgroup_size.iter().zip(sizes) {
        product *= match expression.map(|e| &module.global_expressions[e]) {
            Some(naga::Expression::Override(o)) => {
                let name = module.overrides[*o].name.clone().unwrap_or_default();
                let value = k.overrides().iter().find(|v| v.0 == name).map(|v| v.1);
                value.ok_or_else(|| format!("Rust gives no value of {name}, which sizes the workgroup"))? as u32
            }
            Some(other) => return Err(format!("the workgroup's size is more than a name: {other:?}").into()),
            None => *size,
        };
    }
    Ok(product)
}

fn name_of(s: Scalar) -> Option<&'static str> {
    match s {
        Scalar { kind: ScalarKind::Float, width: 4 } => Some("f32"),
        Scalar { kind: ScalarKind::Uint, width: 4 } => Some("u32"),
        Scalar { kind: ScalarKind::Sint, width: 4 } => Some("i32"),
        _ => None,
    }
}

fn scalar(t: &TypeInner) -> Option<&'static str> {
    match t {
        TypeInner::Scalar(s) => name_of(*s),
        _ => None,
    }
}

/// What an array holds, a vector or an atomic counting as its scalar.
fn element(t: &TypeInner) -> Option<&'static str> {
    match t {
        TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } | TypeInner::Atomic(s) => name_of(*s),
        _ => None,
    }
}

/// Every shader is in the registry and every kernel has a shader of its name.
fn stems() -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = BTreeSet::new();
    for family in std::fs::read_dir(&root)? {
        let family = family?;
        let name = family.file_name().to_string_lossy().into_owned();
        if name == "common" {
            continue;
        }
        for file in std::fs::read_dir(family.path())? {
            let file = file?.file_name().to_string_lossy().into_owned();
            let stem = file.strip_suffix(".wgsl").ok_or_else(|| format!("shaders/{name}/{file} is no .wgsl"))?;
            files.insert(format!("{name}/{stem}"));
        }
    }
    let kernels: BTreeSet<_> = registry::kernels().iter().map(|k| k.name().to_string()).collect();
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    let (shaders, registered) = (only(&files, &kernels), only(&kernels, &files));
    ensure(shaders.is_empty() && registered.is_empty(), || {
        format!("shaders without a kernel in the registry: {shaders:?}; kernels without a shader: {registered:?}")
    })
}
