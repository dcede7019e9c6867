# The package of all functions, as `sam build` asks for it. docs/adr/0012 says why it is made here.
#
# SAM runs the Makefile of package/RUNTIME-ARCHITECTURE, in the root of the project, and passes the target folder.
# Nothing is compiled but Python, so any machine with make, pip and cyclonedx-bom can build for any Lambda.

target := $(notdir $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST)))))
runtime := $(firstword $(subst -, ,$(target)))
version := $(runtime:python%=%)
package := $(ARTIFACTS_DIR)

# python3.11 is made for tests on machines that have no newer one; Lambda's runs on a Linux that is too old for RE2.
# Amazon Linux 2023, below Python 3.12 and newer, has glibc 2.34.
platforms.x86_64 := manylinux2014_x86_64 manylinux_2_28_x86_64
platforms.arm64 := manylinux2014_aarch64 manylinux_2_28_aarch64
platforms := $(platforms.$(lastword $(subst -, ,$(target))))

# The Python that has pip and cyclonedx-bom, and the one of the runtime, which alone can make what the runtime need not.
PYTHON ?= python3
RUNTIME_PYTHON ?= $(runtime)

# What botocore knows of the other four hundred services is two thirds of it.
services := events rds s3 secretsmanager sns sqs sts xray
# What is for a machine with a person in front of it.
not_here := adapters/embedded_postgres adapters/webhook.py entrypoints/__main__.py entrypoints/cli.py entrypoints/record_page.py entrypoints/serve entrypoints/terminal.py entrypoints/watch.py

.SILENT:
functions := Import Sweep Notify Migrate Api Undo Check Token
targets := $(functions:%=build-%Function)
.PHONY: $(targets)
$(targets):
	rm -rf "$(package)"
	$(PYTHON) -m pip install -qq --disable-pip-version-check --no-input --no-compile --target "$(package)" \
	    --require-hashes --no-deps --only-binary :all: --implementation cp --python-version $(version) \
	    $(addprefix --platform ,$(platforms)) --requirement requirements/lambda.txt
	cp -R src/rollcall "$(package)/"
	cd "$(package)/rollcall" && rm -rf $(not_here)
	@# A record of your own, see docs/your-record.md.
	find deploy/record -name '*.py' -exec cp {} "$(package)/" \;
	cd "$(package)" && rm -rf bin && find . -name __pycache__ -prune -exec rm -rf {} +
	cd "$(package)/botocore/data" && find . -mindepth 1 -maxdepth 1 -type d $(addprefix ! -name ,$(services)) -exec rm -rf {} +
	@# The bill of materials, of an environment in which nothing is installed but the package.
	$(PYTHON) -m venv --without-pip "$(package)/.environment"
	cd "$(package)/.environment/lib/python3"*/site-packages && echo "$(package)" > package.pth
	$(PYTHON) -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible \
	    --output-file "$(package)/rollcall.cdx.json" "$(package)/.environment"
	rm -rf "$(package)/.environment"
	@# Lambda cannot keep what it compiles, so without this every cold start compiles everything again.
	if $(RUNTIME_PYTHON) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(version)")' 2>/dev/null; then \
	    $(RUNTIME_PYTHON) -m compileall -q --invalidation-mode unchecked-hash -s "$(package)" -p /var/task "$(package)"; \
	else \
	    echo "There is no $(runtime) here to compile with (RUNTIME_PYTHON names one): cold starts will take twice as long."; \
	fi
