"Everything that can differ between projects stands in settings.ini; this file only hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path
import re, shlex
import setuptools

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
readme = here/'README.md'

def absolute(text):
    "Links and pictures of the README by their full address, as PyPI needs them."
    at = f"{cfg['git_url']}/{{}}/{cfg['branch']}/"
    text = re.sub(r'(src="|!\[[^]]*\]\()(?!https?:)', lambda m: m[1] + at.format('raw'), text)
    return re.sub(r'(?<!!)(\[[^]]*\]\()(?!https?:|#)', lambda m: m[1] + at.format('blob'), text)

extras = {k.removesuffix('_requirements'): shlex.split(v) for k, v in cfg.items() if k.endswith('_requirements')}
extras['all'] = sorted({r for k, v in extras.items() if k not in ('dev', 'photos') for r in v})
extras['dev'] += extras['all'] + extras['photos']  # the tests try everything

setuptools.setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=absolute(readme.read_text(encoding='utf-8')) if readme.exists() else cfg['description'],
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Changes': f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md"},
    keywords=cfg['keywords'].split(),
    license='Apache-2.0',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Developers', 'Intended Audience :: Education',
                 *(f'Programming Language :: Python :: 3.{i}' for i in range(10, 14))],
    packages=setuptools.find_packages(include=[cfg['lib_name'], f"{cfg['lib_name']}.*"]),
    package_data={cfg['lib_name']: ['py.typed']},
    python_requires=f">={cfg['min_python']}",
    install_requires=shlex.split(cfg['requirements']),
    extras_require=extras,
    entry_points={'console_scripts': shlex.split(cfg.get('console_scripts', '')),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    zip_safe=False,
)
