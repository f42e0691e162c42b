"""Text of Terraform blocks, read again by a parser of Terraform's language."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terraform_facts import terraform_resources

from cloud_tasks.plugin import TerraformBlock, TerraformExpression, terraform_text

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.text('$%{}"\\\n\b\f a', max_size=12),
)
VALUE = st.one_of(TEXT, st.booleans(), st.integers(0, 9999), st.lists(TEXT, max_size=3))


def resource(arguments: dict[str, Any], *blocks: TerraformBlock) -> TerraformBlock:
    return TerraformBlock(kind="resource", labels=("cloud_bucket", "staging"), arguments=arguments, blocks=blocks)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), VALUE, max_size=4))
def test_terraform_text_is_read_as_the_values_that_were_written(arguments: dict[str, Any]) -> None:
    assert terraform_resources(terraform_text([resource(arguments)])) == {"cloud_bucket.staging": arguments}


def test_terraform_text_has_nested_blocks_mappings_and_expressions() -> None:
    rule = TerraformBlock(
        kind="lifecycle_rule",
        blocks=(
            TerraformBlock(kind="action", arguments={"type": "Delete"}),
            TerraformBlock(kind="condition", arguments={"age": 14}),
        ),
    )
    block = resource({"labels": {"a-b": "1"}, "owner": TerraformExpression("cloud_account.worker.email")}, rule, rule)
    found = terraform_resources(terraform_text([block]))["cloud_bucket.staging"]
    nested = {"action": [{"type": "Delete"}], "condition": [{"age": 14}]}
    assert found == {
        "labels": {"a-b": "1"},
        "owner": "${cloud_account.worker.email}",
        "lifecycle_rule": [nested, nested],
    }


@pytest.mark.parametrize("arguments", [{"a b": 1}, {"a": object()}, {"a": None}])
def test_terraform_text_refuses_what_a_file_cannot_have(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.compile("invalid name|invalid type")):
        terraform_text([resource(arguments)])
