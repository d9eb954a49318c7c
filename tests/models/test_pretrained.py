"""Folders of models: what is written, what published checkpoints need, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import SerializationError
from dualgraph_models import bert, gpt, gpt2, lenet, mlp, mobilenet, resnet, vgg, vit
from tests.models.test_reference import SMALL_BERT, SMALL_GPT2

# -- names and sizes of what others publish --------------------------------------------------------


def state_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def test_resnet50_has_torchvisions_state() -> None:
    state = state_of(resnet.resnet50())
    assert len(state) == 320
    assert sum(int(np.prod(s)) for k, s in state.items() if "running" not in k and s) == 25557032
    for key, shape in {
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.bn3.running_mean": (256,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.0.downsample.1.num_batches_tracked": (),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.weight": (1000, 2048),
    }.items():
        assert state[key] == shape


def test_vgg_has_torchvisions_state() -> None:
    state = state_of(vgg.VGG(vgg.STAGES[16], width=4, hidden=8))  # names do not depend on sizes
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    places = [f"features.{i}" for i in convolutions] + [f"classifier.{i}" for i in (0, 3, 6)]
    assert list(state) == [f"{p}.{kind}" for p in places for kind in ("weight", "bias")]
    normed = vgg.VGG(vgg.STAGES[11], True, width=4, hidden=8).state_dict()
    assert [k for k in normed if k.endswith("running_var")] == [
        f"features.{i}.running_var" for i in (1, 5, 9, 12, 16, 19, 23, 26)
    ]


def test_mobilenet_has_torchvisions_state() -> None:
    state = state_of(mobilenet.MobileNetV2())
    assert len(state) == 314
    for key, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_mean": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert state[key] == shape


def test_vit_has_torchvisions_state() -> None:
    model = vit.VisionTransformer(num_layers=1)
    block = "encoder.layers.encoder_layer_0"
    assert state_of(model) == {
        "class_token": (1, 1, 768),
        "conv_proj.weight": (768, 3, 16, 16),
        "conv_proj.bias": (768,),
        "encoder.pos_embedding": (1, 197, 768),
        f"{block}.ln_1.weight": (768,),
        f"{block}.ln_1.bias": (768,),
        f"{block}.self_attention.in_proj_weight": (2304, 768),
        f"{block}.self_attention.in_proj_bias": (2304,),
        f"{block}.self_attention.out_proj.weight": (768, 768),
        f"{block}.self_attention.out_proj.bias": (768,),
        f"{block}.ln_2.weight": (768,),
        f"{block}.ln_2.bias": (768,),
        f"{block}.mlp.0.weight": (3072, 768),
        f"{block}.mlp.0.bias": (3072,),
        f"{block}.mlp.3.weight": (768, 3072),
        f"{block}.mlp.3.bias": (768,),
        "encoder.ln.weight": (768,),
        "encoder.ln.bias": (768,),
        "heads.head.weight": (1000, 768),
        "heads.head.bias": (1000,),
    }
    count = sum(p.numel() for p in model.parameters())
    inside = sum(int(np.prod(s)) for k, s in state_of(model).items() if k.startswith(block))
    assert count + 11 * inside == 86567656  # ViT-B/16 has twelve such blocks


def test_gpt2_has_hugging_faces_state() -> None:
    state = state_of(gpt2.GPT2LMHeadModel(vocab_size=99, n_layer=1))
    block = "transformer.h.0"
    assert state == {
        "transformer.wte.weight": (99, 768),
        "transformer.wpe.weight": (1024, 768),
        f"{block}.ln_1.weight": (768,),
        f"{block}.ln_1.bias": (768,),
        f"{block}.attn.c_attn.weight": (768, 2304),
        f"{block}.attn.c_attn.bias": (2304,),
        f"{block}.attn.c_proj.weight": (768, 768),
        f"{block}.attn.c_proj.bias": (768,),
        f"{block}.ln_2.weight": (768,),
        f"{block}.ln_2.bias": (768,),
        f"{block}.mlp.c_fc.weight": (768, 3072),
        f"{block}.mlp.c_fc.bias": (3072,),
        f"{block}.mlp.c_proj.weight": (3072, 768),
        f"{block}.mlp.c_proj.bias": (768,),
        "transformer.ln_f.weight": (768,),
        "transformer.ln_f.bias": (768,),
        "lm_head.weight": (99, 768),
    }


def test_bert_has_hugging_faces_state() -> None:
    layer = "bert.encoder.layer.0"
    linear = ["attention.self.query", "attention.self.key", "attention.self.value"]
    linear += ["attention.output.dense", "intermediate.dense", "output.dense"]
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
    embeddings = ["word_embeddings", "position_embeddings", "token_type_embeddings"]
    wanted = {f"bert.embeddings.{name}.weight" for name in embeddings}
    for place in [f"{layer}.{n}" for n in linear + norms] + [
        "bert.embeddings.LayerNorm",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.decoder",
    ]:
        wanted |= {f"{place}.weight", f"{place}.bias"}
    small = {**SMALL_BERT, "num_hidden_layers": 1}
    assert set(state_of(bert.BertForMaskedLM(**small))) == wanted | {"cls.predictions.bias"}


# -- folders of others -----------------------------------------------------------------------------


OLD = {"weight": "gamma", "bias": "beta"}


def write(folder: Path, config: Any, state: Any) -> None:
    folder.mkdir(exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    dg.save(state, folder / "model.safetensors")


def test_a_published_gpt2(tmp_path: Path) -> None:
    """Without prefix and head, with masks, and with a config that says more."""
    model = gpt2.GPT2LMHeadModel(**SMALL_GPT2).eval()
    state = {
        name.removeprefix("transformer."): t
        for name, t in model.state_dict().items()
        if name != "lm_head.weight"
    }
    state["h.0.attn.bias"] = dg.ones(1, 1, 12, 12)
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "bos_token_id": 50256}
    write(tmp_path, config | {name: SMALL_GPT2[name] for name in names}, state)
    again = gpt2.GPT2LMHeadModel.from_pretrained(tmp_path)
    tokens = dg.randint(0, 20, (2, 7))
    np.testing.assert_array_equal(again(tokens).detach().numpy(), model(tokens).detach().numpy())
    assert again.lm_head.weight is again.transformer.wte.weight


def test_a_published_bert(tmp_path: Path) -> None:
    """Read with and without its head; names of norms as older checkpoints have them."""
    model = bert.BertForMaskedLM(**SMALL_BERT).eval()
    state = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): v
        for k, v in model.state_dict().items()
        if not k.startswith("cls.predictions.decoder")
    }
    pooler = nn.Linear(16, 16)
    state |= {f"bert.pooler.dense.{k}": v for k, v in pooler.state_dict().items()}
    state |= {f"cls.seq_relationship.{k}": v for k, v in nn.Linear(16, 2).state_dict().items()}
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_act": "gelu"}
    write(tmp_path, config | SMALL_BERT, state)
    again = bert.BertForMaskedLM.from_pretrained(tmp_path)
    bare = bert.BertModel.from_pretrained(tmp_path)
    tokens = dg.randint(1, 20, (2, 7))
    mask = dg.tensor([[1] * 7, [1] * 4 + [0] * 3])
    wanted = model(tokens, mask).detach().numpy()
    np.testing.assert_array_equal(again(tokens, mask).detach().numpy(), wanted)
    features, pooled = bare(tokens, mask)
    np.testing.assert_array_equal(
        features.detach().numpy(), model.bert(tokens, mask)[0].detach().numpy()
    )
    np.testing.assert_allclose(
        pooled.detach().numpy(), pooler(features[:, 0]).tanh().detach().numpy(), rtol=1e-6
    )


def test_what_a_mask_hides_does_not_matter() -> None:
    model = bert.BertModel(**SMALL_BERT).eval()
    tokens = dg.randint(1, 20, (1, 6))
    mask = dg.tensor([[1, 1, 1, 1, 0, 0]])
    other = tokens.clone()
    other[:, 4:] = 1
    a, b = (model(x, mask)[0][:, :4].detach().numpy() for x in (tokens, other))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_checkpoints_from_before_batches_were_counted(tmp_path: Path) -> None:
    model = resnet.ResNet(num_classes=3, width=2)
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    assert resnet.ResNet(num_classes=3, width=2).load_state_dict(state).missing_keys == []
    write(tmp_path, {"num_classes": 3, "width": 2}, state)
    again = resnet.ResNet.from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        again.fc.weight.detach().numpy(), model.fc.weight.detach().numpy()
    )


# -- what is written, and refused -----------------------------------------------------------------


def test_files_are_what_other_programs_read(tmp_path: Path) -> None:
    """Plain safetensors, with weights that are shared once, and JSON."""
    model = gpt2.GPT2LMHeadModel(**SMALL_GPT2)
    model.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == model.state_dict().keys() - {"lm_head.weight"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, model.state_dict()[name].numpy())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["model_type"] == "gpt2"
    assert config["n_positions"] == 12


def test_options_of_all_kinds(tmp_path: Path) -> None:
    """Layers by name, lists, and config objects."""
    mlp.MLP(4, (5, 6), 3, nn.Tanh).save_pretrained(tmp_path / "a")
    again = mlp.MLP.from_pretrained(tmp_path / "a")
    assert [type(layer).__name__ for layer in again.layers][1] == "Tanh"
    model = gpt.GPT(gpt.Config(context=8, layers=1, heads=1, width=8))
    model.save_pretrained(tmp_path / "b")
    assert gpt.GPT.from_pretrained(tmp_path / "b").config == model.config

    class Squash(nn.Module):
        """No layer of the framework."""

    with pytest.raises(SerializationError, match="activation"):
        mlp.MLP(activation=Squash).save_pretrained(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_save_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: Any) -> None:
    model = lenet.LeNet()
    model.save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        lenet.LeNet(num_classes=3).save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_copies_keep_their_options() -> None:
    model = resnet.ResNet(num_classes=3, width=2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.arguments == model.arguments


GOOD = {"architectures": ["LeNet"], "num_classes": 10}
HOSTILE: dict[str, tuple[Any, Callable[[dict[str, Any]], Any]]] = {
    "no JSON": ("{", dict),
    "no object": ("[1, 2]", dict),
    "nested deeply": ("[" * 100_000, dict),
    "long": ('"' + "x" * 2_000_000 + '"', dict),
    "another model": ({"architectures": ["VGG"]}, dict),
    "names that are no list": ({"architectures": {"LeNet": 1}}, dict),
    "an unknown option": (GOOD | {"layers": 3}, dict),
    "an option of another type": (GOOD | {"num_classes": "ten"}, dict),
    "a negative size": (GOOD | {"num_classes": -4}, dict),
    "a size beyond memory": (GOOD | {"num_classes": 10**12}, dict),
    "another number of classes": (GOOD | {"num_classes": 11}, dict),
    "a missing tensor": (GOOD, lambda s: {k: v for k, v in s.items() if k != "fc1.bias"}),
    "a tensor too many": (GOOD, lambda s: s | {"fc4.bias": dg.ones(1)}),
    "a tensor of another kind": (GOOD, lambda s: s | {"fc1.bias": dg.ones(120, dtype=dg.int64)}),
    "no state dict": (GOOD, lambda s: [dg.ones(1)]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    config, change = HOSTILE[name]
    write(tmp_path, config, change(dict(lenet.LeNet().state_dict())))
    with pytest.raises(SerializationError):
        lenet.LeNet.from_pretrained(tmp_path)


def test_what_is_missing_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lenet.LeNet.from_pretrained(tmp_path / "nowhere")
    lenet.LeNet().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 7, 100, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(SerializationError):
            lenet.LeNet.from_pretrained(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        lenet.LeNet.from_pretrained(tmp_path)
