//! Against a direct O(n²) transform in f64. Tolerance: ‖y − y₀‖∞ ≤ 8·ε·(1 + log2 n)·‖x‖₁ with the
//! ε of the precision: the error of an FFT grows with log n, and ‖x‖₁ bounds each bin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;

use super::*;

const LENGTHS: &[usize] = &[1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 60, 97, 127, 128, 243, 360, 509];

/// Deterministic samples in [−1, 1).
fn samples(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1u32 << 30) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The definition, with the angle reduced exactly before it meets floating point.
fn direct(row: &[(f64, f64)], inverse: bool) -> Vec<(f64, f64)> {
    let n = row.len();
    let sign = if inverse { 1.0 } else { -1.0 };
    let bin = |k: usize| {
        row.iter().enumerate().fold((0.0, 0.0), |(re, im), (j, (x, y))| {
            let angle = sign * std::f64::consts::TAU * ((j * k) % n) as f64 / n as f64;
            let (sin, cos) = angle.sin_cos();
            (re + x * cos - y * sin, im + x * sin + y * cos)
        })
    };
    let scale = if inverse { 1.0 / n as f64 } else { 1.0 };
    (0..n).map(bin).map(|(re, im)| (re * scale, im * scale)).collect()
}

fn encode(values: &[f64], single: bool) -> String {
    let bytes: Vec<u8> = if single {
        values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    STANDARD.encode(bytes)
}

fn decode(text: &str, single: bool) -> Vec<f64> {
    let bytes = STANDARD.decode(text).unwrap();
    if single {
        bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    } else {
        bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

fn compute(data: &str) -> Result<(serde_json::Value, u64), String> {
    let data = RawValue::from_string(data.into()).unwrap();
    match Fft::new(1).compute(&data, &AtomicBool::new(false)) {
        End::Complete { usage, result } => {
            Ok((serde_json::from_str(result.unwrap().get()).unwrap(), usage.units))
        }
        End::Fail { message, retry, .. } => {
            assert!(!retry, "{message}");
            Err(message)
        }
    }
}

fn check(dtype: &str, batch: Option<usize>, n: usize, direction: &str, output: &str) {
    let (single, real) = (matches!(dtype, "c64" | "f32"), dtype.starts_with('f'));
    let rows = batch.unwrap_or(1);
    let per_point = if real { 1 } else { 2 };
    let mut values = samples(rows * n * per_point, n as u64 + 1);
    if single {
        values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
    }
    let axes = batch.map_or(format!("[{n}]"), |batch| format!("[{batch},{n}]"));
    let request = format!(
        r#"{{"dtype":"{dtype}","shape":{axes},"direction":"{direction}","output":"{output}","data":"{}"}}"#,
        encode(&values, single)
    );
    let (result, units) = compute(&request).unwrap();
    let case = format!("{dtype} {axes} {direction} {output}");
    assert_eq!(units, (rows * n) as u64, "{case}");
    let bins = if real { n / 2 + 1 } else { n };
    let wide = if single { ("c64", "f32") } else { ("c128", "f64") };
    assert_eq!(result["dtype"], if output == "power" { wide.1 } else { wide.0 }, "{case}");
    let shape = batch.map_or(serde_json::json!([bins]), |batch| serde_json::json!([batch, bins]));
    assert_eq!(result["shape"], shape, "{case}");
    let got = decode(result["data"].as_str().unwrap(), single);
    let width = if output == "power" { 1 } else { 2 };
    assert_eq!(got.len(), rows * bins * width, "{case}");
    let epsilon = if single { f64::from(f32::EPSILON) } else { f64::EPSILON };
    for (row, got) in values.chunks(n * per_point).zip(got.chunks(bins * width)) {
        let row: Vec<_> = row
            .chunks(per_point)
            .map(|point| (point[0], point.get(1).copied().unwrap_or(0.0)))
            .collect();
        let norm: f64 = row.iter().map(|(re, im)| re.hypot(*im)).sum();
        let tolerance = 8.0 * epsilon * (1.0 + (n as f64).log2()) * norm;
        for (got, (re, im)) in got.chunks(width).zip(direct(&row, direction == "inverse")) {
            if output == "power" {
                let size = re.hypot(im) + tolerance;
                assert!((got[0] - (re * re + im * im)).abs() <= 3.0 * tolerance * size, "{case}");
            } else {
                assert!((got[0] - re).hypot(got[1] - im) <= tolerance, "{case}");
            }
        }
    }
}

#[test]
fn complex_transforms_agree_with_the_definition() {
    for dtype in ["c64", "c128"] {
        for n in LENGTHS {
            for direction in ["forward", "inverse"] {
                check(dtype, None, *n, direction, "complex");
            }
            check(dtype, Some(3), *n, "forward", "power");
            check(dtype, Some(2), *n, "inverse", "complex");
        }
    }
}

#[test]
fn real_transforms_give_the_half_spectrum() {
    for dtype in ["f32", "f64"] {
        for n in LENGTHS {
            check(dtype, None, *n, "forward", "complex");
            check(dtype, Some(1), *n, "forward", "power");
            check(dtype, Some(5), *n, "forward", "complex");
        }
    }
}

#[test]
fn defaults_are_forward_and_complex() {
    let data = encode(&[1.0, 2.0], false);
    let (result, units) =
        compute(&format!(r#"{{"dtype":"f64","shape":[2],"data":"{data}"}}"#)).unwrap();
    assert_eq!(decode(result["data"].as_str().unwrap(), false), [3.0, 0.0, -1.0, 0.0]);
    assert_eq!(units, 2);
}

#[test]
fn every_refusal_names_its_field() {
    let cases = [
        (r#"{"shape":[1],"data":""}"#, "`dtype`"),
        (r#"{"dtype":"c32","shape":[1],"data":""}"#, "`dtype`: expected c64"),
        (r#"{"dtype":5,"shape":[1],"data":""}"#, "`dtype`: expected a string"),
        (r#"{"dtype":"c64","shape":[],"data":""}"#, "`shape`"),
        (r#"{"dtype":"c64","shape":[1,2,3],"data":""}"#, "`shape`"),
        (r#"{"dtype":"c64","shape":[0],"data":""}"#, "`shape`"),
        (r#"{"dtype":"c64","shape":[-1],"data":""}"#, "`shape`"),
        (r#"{"dtype":"c64","shape":[1.5],"data":""}"#, "`shape`"),
        (r#"{"dtype":"c64","shape":[16777217],"data":""}"#, "`shape`: at most 16777216"),
        (r#"{"dtype":"c64","shape":[4294967296,4294967296],"data":""}"#, "`shape`: at most"),
        (r#"{"dtype":"c64","shape":[1],"direction":"up","data":""}"#, "`direction`"),
        (r#"{"dtype":"c64","shape":[1],"output":"phase","data":""}"#, "`output`"),
        (
            r#"{"dtype":"f32","shape":[1],"direction":"inverse","data":"AAAAAA=="}"#,
            "`direction`: inverse needs c64 or c128",
        ),
        (r#"{"dtype":"f32","shape":[1]}"#, "`data` is missing"),
        (r#"{"dtype":"f32","shape":[1],"data":"*"}"#, "`data`: not base64"),
        (r#"{"dtype":"f32","shape":[2],"data":"AAAAAA=="}"#, "`data`: 4 bytes"),
        (r#"{"dtype":"f32","shape":[1],"dataref":"x"}"#, "`dataref`"),
        (r#"{"dtype":"f32","shape":[1],"data":"AAAAAA==","window":"hann"}"#, "`window`"),
        (r#"[1]"#, ""),
        (r#""canary""#, ""),
    ];
    for (request, field) in cases {
        let message = compute(request).expect_err(request);
        assert!(message.contains(field), "{request}: {message}");
        assert!(!message.contains("canary"));
    }
}

#[test]
fn a_result_above_the_frame_is_refused_before_it_is_computed() {
    // Rows of one real point double in size as complex bins.
    let rows = 2_000_000;
    let data = STANDARD.encode(vec![0; rows * 4]);
    let request = format!(r#"{{"dtype":"f32","shape":[{rows},1],"data":"{data}"}}"#);
    assert!(compute(&request).expect_err("too large").contains("`shape`: the result"));
}

#[tokio::test]
async fn a_dropped_job_gives_its_thread_back() {
    let fft = Arc::new(Fft::new(1));
    let row = STANDARD.encode(vec![0; 4096 * 8]);
    let request = format!(r#"{{"dtype":"c64","shape":[4096],"data":"{row}"}}"#);
    let data = RawValue::from_string(request).unwrap();
    // Polled once, then dropped while its thread runs.
    let _ = Arc::clone(&fft).run(data.clone()).now_or_never();
    let end = Arc::clone(&fft).run(data).await;
    assert!(matches!(end, End::Complete { usage: Usage { units: 4096, .. }, .. }));
}
