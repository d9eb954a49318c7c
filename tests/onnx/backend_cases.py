"""Cases of ONNX's test suite that are left out, each with the reason, none of which is ours."""

RANDOM = "compares draws without a seed, or with one that NumPy's generator draws otherwise from"
RUNNER = "ONNX's runner cannot compare an element without dimensions (test_stepwise_values does)"
HALF = "expects every step of a softmax rounded to half precision, which is rounded once here"

EXCLUDED = {
    "test_attention_4d_causal_fp16_expanded": HALF,
    "test_bernoulli": RANDOM,
    "test_bernoulli_double": RANDOM,
    "test_bernoulli_double_expanded": RANDOM,
    "test_bernoulli_expanded": RANDOM,
    "test_bernoulli_seed": RANDOM,
    "test_bernoulli_seed_expanded": RANDOM,
    "test_loop16_seq_none": RUNNER,
}
