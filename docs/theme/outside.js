// Pages link to files of the repository, such as tests. The site has no such files: these links lead to where the code
// is, which the button to the repository knows (`git-repository-url`, given when the site is published).
(() => {
  const button = document.querySelector('a[title="Git repository"]');
  if (!button || typeof path_to_root === 'undefined') return;
  const root = new URL(path_to_root || './', window.location.href).pathname;
  const folder = window.location.pathname.slice(root.length).split('/').slice(0, -1);
  for (const link of document.querySelectorAll('main a[href^="../"]')) {
    const [path, anchor] = link.getAttribute('href').split('#');
    const place = ['docs', ...folder];
    for (const part of path.split('/')) {
      if (part === '..') place.pop();
      else if (part !== '.') place.push(part);
    }
    // mdBook has renamed pages, those outside of the book, too.
    const file = place.join('/').replace(/\.html$/, '.md');
    if (!file.startsWith('docs/')) {
      link.href = `${button.href}/blob/HEAD/${file}${anchor ? `#${anchor}` : ''}`;
    }
  }
})();
